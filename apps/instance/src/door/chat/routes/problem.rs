//! Error answers: a handler returns a [`Problem`], the layer knows the request id and writes the body.

use std::borrow::Cow;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use reef_door::{ErrorBody, ErrorCode, headers};
use reef_model::RequestId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::log::{AcceptError, LogError};

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Value,
}

impl Problem {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: code.status(), code, message: message.into(), details: Value::Null }
    }

    /// A field that cannot be taken (422).
    pub(super) fn field(field: &str, message: &str) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Self::new(ErrorCode::InvalidRequest, format!("{field}: {message}"))
                .with(json!({ "fields": [{ "field": field, "message": message }] }))
        }
    }

    pub(super) fn no_session() -> Self {
        Self::new(ErrorCode::NotFound, "There is no such chat session. List them at …/chat/sessions.")
    }

    pub(super) fn no_turn() -> Self {
        Self::new(ErrorCode::NotFound, "There is no such turn.")
    }

    /// The log cannot take a turn's events at present.
    pub(super) fn stuck() -> Self {
        Self::new(
            ErrorCode::InternalError,
            "The instance cannot write its chat log; its disk may be full. Free space, then look at the turn again.",
        )
        .with(json!({ "reason": "storage_failed" }))
    }

    pub(super) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        if matches!(error, LogError::Full(_)) {
            return Self::stuck();
        }
        tracing::error!(error = format!("{:#}", anyhow::Error::new(error)), "the chat log failed");
        Self::new(
            ErrorCode::InternalError,
            "The instance's chat log failed. Try again; the request id finds it in the log.",
        )
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::NoSession => Self::no_session(),
            AcceptError::KeyReused => Self::field(
                "Idempotency-Key",
                "was used with another body in the last 24 hours; use a new one for a new request",
            ),
            AcceptError::Log(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the bodies of error answers.
pub(super) async fn render(request: Request, next: Next) -> Response {
    let given = request.headers().get(headers::REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = given.map_or_else(|| RequestId::generate().to_string(), str::to_owned);
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = ErrorBody::new(problem.code, problem.message, problem.details, id.clone());
        response = (problem.status, Json(body)).into_response();
        if problem.code == ErrorCode::InstanceNotReady {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

/// A JSON body, together with its bytes.
pub(super) struct Body<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return Problem::new(ErrorCode::PayloadTooLarge, "The body is larger than 24 MiB.");
            }
            Problem::new(ErrorCode::InvalidRequest, "The body could not be read.")
        })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let message = error.to_string();
            // serde names the field in backticks where it knows one.
            let field = message.split('`').nth(1).unwrap_or("body").to_owned();
            Problem::new(
                ErrorCode::InvalidRequest,
                format!("The body is not what this route takes: {message}"),
            )
            .with(json!({ "fields": [{ "field": field, "message": message }] }))
        })?;
        Ok(Self { value, bytes })
    }
}
