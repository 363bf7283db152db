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
    /// 401: nobody known, or a wrong password.
    #[error("Login failed")]
    LoginFailed,
    /// 401: known, but may not.
    #[error("{0}")]
    NotAuthorized(String),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 404.
    #[error("Not Found")]
    NotFound,
    /// 405.
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
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::LoginFailed | Self::NotAuthorized(_) => {
                (StatusCode::UNAUTHORIZED, "not_authorized")
            }
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Object Not Found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Precondition(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "bad_request"),
            Self::Unavailable | Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable")
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { .. } | Refusal::VhostNotFound { .. } => Self::NotFound,
            Refusal::AccessRefused(reason) => Self::NotAuthorized(reason),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = self.status();
        let mut response = body::json(status, &json!({"error": error, "reason": self.to_string()}));
        if matches!(self, Self::LoginFailed) {
            let challenge = header::HeaderValue::from_static(CHALLENGE);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
