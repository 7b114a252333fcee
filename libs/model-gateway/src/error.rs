//! Why there is no completion, in the shape of the OpenAI API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why there is no completion.
#[derive(Debug)]
pub(crate) enum ModelError {
    /// The body is no request of this API.
    Invalid(String),
    /// The request is right and refused.
    Refused(&'static str),
    /// Larger than a request may be.
    TooLarge,
    /// Too many requests are held at present.
    Busy,
    /// The operator chose another model.
    UnknownModel,
    /// No such route.
    NotFound,
    /// The route takes another method.
    MethodNotAllowed,
    /// The provider refused the operator's key; what it says of the key stays here.
    ProviderKey(StatusCode),
    /// The provider cannot be reached or broke off.
    ProviderDown,
}

impl IntoResponse for ModelError {
    fn into_response(self) -> Response {
        let (status, kind, message) = match &self {
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, "invalid_request_error", message.as_str()),
            Self::Refused(message) => (StatusCode::BAD_REQUEST, "invalid_request_error", *message),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "the request is larger than 32 MiB")
            }
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "too many requests wait for models; try again",
            ),
            Self::UnknownModel => (
                StatusCode::NOT_FOUND,
                "model_not_found",
                "no such model: use \"default\", the operator's choice",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "invalid_request_error", "no such route"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "this route takes another method")
            }
            Self::ProviderKey(status) => (
                *status,
                "provider_key",
                "the model provider refused the operator's key; the operator must renew it",
            ),
            Self::ProviderDown => {
                (StatusCode::BAD_GATEWAY, "provider_down", "the model provider cannot be reached; try again")
            }
        };
        let body = json!({ "error": { "message": message, "type": kind, "param": null, "code": kind } });
        (status, Json(body)).into_response()
    }
}
