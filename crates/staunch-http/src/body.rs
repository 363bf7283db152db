//! Bodies of requests and responses.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value};
use staunch_broker::Change;

use crate::{error::ApiError, router::BODY_SIZE_BYTES_MAX};

/// What every handler returns.
pub(crate) type Answer = Result<Response, ApiError>;

/// A JSON body, whatever its content type says. An empty one, or `null`, is an empty object.
pub(crate) struct Json<T>(pub(crate) T);

/// What a JSON body stands for.
pub(crate) trait Content: DeserializeOwned {
    /// Keys that must be there, in the order in which RabbitMQ misses them.
    const REQUIRED: &'static [&'static str] = &[];
}

/// True or false, also as a text: tools send both (RabbitMQ's `parse_bool`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

/// A number, also as a text (RabbitMQ's `parse_int`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(value) => Ok(Self(value)),
            Value::String(text) if text == "true" => Ok(Self(true)),
            Value::String(text) if text == "false" => Ok(Self(false)),
            other => bool::deserialize(other).map(Self).map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = value.as_str().and_then(|text| text.parse().ok());
        let number = read.map_or_else(|| u64::deserialize(&value), Ok);
        number.map(Self).map_err(D::Error::custom)
    }
}

/// What a query stands for; one that cannot be read is answered in the shape of all errors.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        let Query(asked) = asked.map_err(|error| ApiError::BadRequest(error.body_text()))?;
        Ok(Self(asked))
    }
}

/// The body of a request, if it is not larger than so many bytes.
pub(crate) async fn read(request: Request, size_bytes_max: usize) -> Result<Bytes, ApiError> {
    to_bytes(request.into_body(), size_bytes_max)
        .await
        .map_err(|_| ApiError::BodyTooLarge(size_bytes_max))
}

impl<T: Content, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let bytes = read(request, BODY_SIZE_BYTES_MAX).await?;
        let object = object(&bytes)?;
        let missing = T::REQUIRED.iter().filter(|key| !object.contains_key(**key));
        let missing: Vec<_> = missing
            .map(|key| format!("{{key_missing,{key}}}"))
            .collect();
        if !missing.is_empty() {
            return Err(ApiError::BadRequest(format!("[{}]", missing.join(","))));
        }
        serde_json::from_value(Value::Object(object))
            .map(Self)
            .map_err(|error| ApiError::BadRequest(error.to_string()))
    }
}

/// The object that a body is.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let wrong = |reason: &str| Err(ApiError::BadRequest(reason.to_owned()));
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(Value::String(_)) => wrong(
            "invalid payload: the request body JSON-decoded to a string. Is the input \
             doubly-JSON-encoded?",
        ),
        Ok(Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => wrong("not_json"),
    }
}

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, Body::from(value.to_string())).into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// 200 with a JSON body.
#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
pub(crate) fn ok(value: &Value) -> Answer {
    Ok(json(StatusCode::OK, value))
}

/// The answer to PUT: 201 if it made something, else 204.
#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
pub(crate) fn put(change: Change) -> Answer {
    let status = match change {
        Change::Created => StatusCode::CREATED,
        Change::Unchanged | Change::Updated | Change::Deleted => StatusCode::NO_CONTENT,
    };
    Ok(status.into_response())
}

/// The answer to DELETE: 204, or 404 if there was nothing.
pub(crate) fn delete(change: Change) -> Answer {
    match change {
        Change::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Change::Created | Change::Unchanged | Change::Updated => Err(ApiError::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_numbers_may_be_texts() {
        let flag = |text| serde_json::from_str::<Flag>(text).map(|flag| flag.0);
        assert!(flag("true").expect("true") && flag("\"true\"").expect("true"));
        assert!(!flag("false").expect("false") && !flag("\"false\"").expect("false"));
        let wrong = flag("\"yes\"").expect_err("neither").to_string();
        assert!(
            wrong.starts_with("invalid type: string \"yes\", expected a boolean"),
            "{wrong}"
        );
        let number = |text| serde_json::from_str::<Number>(text).map(|number| number.0);
        assert_eq!(number("7").expect("a number"), 7);
        assert_eq!(number("\"7\"").expect("a number"), 7);
        for text in ["\"x\"", "-1", "1.5", "null"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
