//! Bodies of requests and responses.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
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
