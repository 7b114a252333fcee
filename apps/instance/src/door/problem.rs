//! Error answers and request parts of the door's routes: a handler returns a [`Problem`], the layer [`render`] knows the
//! request id and writes the body.

use std::{borrow::Cow, collections::HashMap, str::FromStr};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use reef_door::{ErrorBody, ErrorCode, headers};
use reef_model::RequestId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    held::{MAX_BODY, Room},
    work::WorkError,
};

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Value,
    retry_after: Option<u32>,
}

impl Problem {
    /// Makes one with the code's usual status.
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = (code == ErrorCode::InstanceNotReady).then_some(5);
        Self { status: code.status(), code, message: message.into(), details: Value::Null, retry_after }
    }

    /// A field that cannot be taken (422).
    pub(crate) fn field(field: &str, message: &str) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Self::new(ErrorCode::InvalidRequest, format!("{field}: {message}"))
                .with(json!({ "fields": [{ "field": field, "message": message }] }))
        }
    }

    /// The instance cannot serve this now, but soon.
    pub(crate) fn not_ready(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InstanceNotReady, message).with(json!({ "status": "starting" }))
    }

    /// The same with another status than the code's usual one.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says after how many seconds it may be tried again.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds facts that go with the code; an object.
    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Failed(failure) => failure.into(),
            WorkError::Gone => {
                Self::not_ready("The instance's processes are being started again. Try again in a moment.")
            }
            WorkError::Busy => Self::new(
                ErrorCode::Capacity,
                "The instance is busy with other files and commands. Try again in a moment.",
            )
            .with(json!({ "reason": "busy" })),
            WorkError::Nonsense => {
                Self::new(ErrorCode::UpstreamError, "The instance did not do what it was asked for.")
            }
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
pub(crate) async fn render(request: Request, next: Next) -> Response {
    let given = request.headers().get(headers::REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = given.map_or_else(|| RequestId::generate().to_string(), str::to_owned);
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = ErrorBody::new(problem.code, problem.message, problem.details, id.clone());
        let set = std::mem::take(response.headers_mut());
        response = (problem.status, Json(body)).into_response();
        response.headers_mut().extend(set);
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

/// Reads a whole body, at most [`MAX_BODY`].
pub(super) async fn whole_body(body: axum::body::Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(unread(error.is::<LengthLimitError>())),
    }
}

fn unread(is_too_large: bool) -> Problem {
    if is_too_large {
        return Problem::new(ErrorCode::PayloadTooLarge, "The body is larger than this route takes.");
    }
    Problem::new(ErrorCode::InvalidRequest, "The body could not be read.")
}

/// A JSON body, together with its bytes.
pub(crate) struct Body<T> {
    /// What it says.
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
    /// What it takes of the memory for bodies.
    _room: Option<Room>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        let room = request.extensions_mut().remove::<Room>();
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
            unread(rejection.status() == StatusCode::PAYLOAD_TOO_LARGE)
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
        Ok(Self { value, bytes, _room: room })
    }
}

/// The parameters of a request; the last one of a name counts.
pub(crate) struct Params(HashMap<String, String>);

impl Params {
    /// Returns a parameter, if it was given.
    pub(crate) fn get<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Problem> {
        self.0.get(name).map(|text| text.parse().map_err(|_| bad(name, wanted))).transpose()
    }

    /// Returns how many rows are wanted: 50 unless said, 1 to 200.
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        let limit = self.get("limit", "a whole number from 1 to 200")?.unwrap_or(50);
        if (1..=200).contains(&limit) { Ok(limit) } else { Err(bad("limit", "a whole number from 1 to 200")) }
    }

    /// Returns a switch, off unless said.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.0.get(name).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(bad(name, "true or false")),
        }
    }
}

fn bad(name: &str, wanted: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, format!("{name} must be {wanted}."))
        .with(json!({ "fields": [{ "field": name, "message": format!("must be {wanted}") }] }))
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(params)| Self(params))
            .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "The query string cannot be read."))
    }
}
