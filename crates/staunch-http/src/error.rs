//! What goes wrong, in RabbitMQ's shape: `{"error": …, "reason": …}`.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use staunch_types::Refusal;

use crate::body;

/// Shown by browsers that ask for a password.
const CHALLENGE: &str = "Basic realm=\"RabbitMQ Management\"";

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// 401 without a body: nobody says who asks.
    #[error("no credentials")]
    LoginMissing,
    /// 400 without a body: who asks cannot be read.
    #[error("malformed credentials")]
    LoginMalformed,
    /// 401: nobody known, or a wrong password.
    #[error("Login failed")]
    LoginFailed,
    /// 401: known, but may not.
    #[error("{0}")]
    NotAuthorized(String),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 400: no number of a page.
    #[error("{0}")]
    NoSuchPage(String),
    /// 400: there is no such page.
    #[error("{0}")]
    PageOutOfRange(String),
    /// 404: what the path names is not there.
    #[error("Not Found")]
    NotFound,
    /// 404: something else that the request needs is not there.
    #[error("{0}")]
    Missing(String),
    /// 405, without a body.
    #[error("Method Not Allowed")]
    MethodNotAllowed,
    /// 412.
    #[error("{0}")]
    Precondition(String),
    /// 413.
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// 503: the node is going, or does not answer in time.
    #[error("the node does not answer")]
    Unavailable,
    /// 503: too many requests at once.
    #[error("too many requests at once")]
    Busy,
}

impl ApiError {
    /// What is made in a virtual host misses that, and not what is made.
    pub(crate) fn of_vhost(self) -> Self {
        match self {
            Self::NotFound => Self::Missing("vhost_not_found".to_owned()),
            other => other,
        }
    }

    /// Status and RabbitMQ's word for it, if there is a body.
    fn status(&self) -> (StatusCode, Option<&'static str>) {
        let (status, word) = match self {
            Self::LoginMissing => return (StatusCode::UNAUTHORIZED, None),
            Self::LoginMalformed => return (StatusCode::BAD_REQUEST, None),
            Self::MethodNotAllowed => return (StatusCode::METHOD_NOT_ALLOWED, None),
            // Both spellings are RabbitMQ's.
            Self::LoginFailed => (StatusCode::UNAUTHORIZED, "not_authorized"),
            Self::NotAuthorized(_) => (StatusCode::UNAUTHORIZED, "not_authorised"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NoSuchPage(_) => (StatusCode::BAD_REQUEST, "invalid_pagination_parameters"),
            Self::PageOutOfRange(_) => (StatusCode::BAD_REQUEST, "page_out_of_range"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Object Not Found"),
            Self::Missing(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Precondition(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "bad_request"),
            Self::Unavailable | Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable")
            }
        };
        (status, Some(word))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { .. } | Refusal::Unavailable(_) => {
                Self::Missing(refusal.to_string())
            }
            Refusal::VhostNotFound { .. } => Self::Missing("vhost_not_found".to_owned()),
            Refusal::AccessRefused(_)
            | Refusal::ReservedName { .. }
            | Refusal::DefaultExchange
            | Refusal::SystemResource { .. }
            | Refusal::InternalExchange { .. } => Self::NotAuthorized(refusal.to_string()),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = self.status();
        let mut response = match error {
            Some(error) => body::json(status, &json!({"error": error, "reason": self.to_string()})),
            None => status.into_response(),
        };
        if matches!(self, Self::LoginMissing | Self::LoginFailed) {
            let challenge = header::HeaderValue::from_static(CHALLENGE);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
