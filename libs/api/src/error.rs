//! From what went wrong to what the caller is told: the one file that knows which error has which status.
//!
//! A handler returns [`ApiError`]; the outermost layer (`context.rs`) writes the body, since only it knows the
//! request id. What happened inside goes to the log beside that id, never into the body.

use std::{borrow::Cow, error::Error, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reef_control::ControlError;
use reef_db::{DbError, Unique};
use reef_door::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

use crate::limits::RateState;

/// An answer that is an error.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: ErrorCode,
    status: StatusCode,
    message: Cow<'static, str>,
    details: Value,
    retry_after: Option<u64>,
    rate: Option<Box<RateState>>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Returns an error with the code's own status; `message` says what to do next.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: code.status(),
            message: message.into(),
            details: Value::Null,
            retry_after: None,
            rate: None,
            cause: None,
        }
    }

    /// No credentials, or bad ones.
    pub fn unauthorized(message: &'static str) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    /// A resource that does not exist or that the caller may not know of; both read the same.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ErrorCode::NotFound, format!("No {what} with this id. Lists show what there is."))
    }

    /// Fields that cannot be taken (422); each with what would be right.
    pub fn invalid<'f>(fields: impl IntoIterator<Item = (&'f str, String)>) -> Self {
        let fields: Vec<_> = fields.into_iter().collect();
        let message = match fields.as_slice() {
            [(field, message)] => format!("{field}: {message}"),
            _ => "Some fields cannot be taken: see error.details.fields.".to_owned(),
        };
        let fields: Vec<_> =
            fields.iter().map(|(field, message)| json!({"field": field, "message": message})).collect();
        Self::new(ErrorCode::InvalidRequest, message)
            .with_status(StatusCode::UNPROCESSABLE_ENTITY)
            .with_details(json!({ "fields": fields }))
    }

    /// Our fault; the cause goes to the log only.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorCode::InternalError,
            "Something went wrong on our side. Try again; if it stays, give the operator the request_id.",
        )
        .with_cause(cause)
    }

    /// Says why, to the log only.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Answers with another status than the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds facts; an object.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Says after how many seconds to try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Says which budget is used up.
    #[must_use]
    pub(crate) fn with_rate(mut self, rate: RateState) -> Self {
        self.rate = Some(Box::new(rate));
        self
    }

    /// Returns the budget that is used up, where that is the error.
    pub(crate) fn rate(&self) -> Option<&RateState> {
        self.rate.as_deref()
    }

    /// Returns the code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes the whole answer as a page.
    pub(crate) fn render_page(&self, request_id: &str) -> Response {
        self.log();
        crate::pages::error_page(self, self.status, request_id)
    }

    fn log(&self) {
        let (code, cause) = (self.code.as_str(), self.cause.as_deref().map(|cause| cause as &dyn Error));
        if self.status.is_server_error() {
            tracing::error!(code, error = cause, "request failed: {}", self.message);
        } else if cause.is_some() {
            tracing::warn!(code, error = cause, "request refused: {}", self.message);
        }
    }

    /// Writes the whole answer.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        self.log();
        let body = ErrorBody::new(self.code, self.message.clone(), self.details.clone(), request_id);
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reef\""));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        use ErrorCode as C;
        match error {
            ControlError::NotFound => {
                Self::new(C::NotFound, "There is nothing with this id. Lists show what there is.")
            }
            ControlError::Invalid { field, message } => Self::invalid([(field, message)]),
            ControlError::Conflict(message) => Self::new(C::Conflict, message),
            ControlError::Stale => {
                Self::new(C::Conflict, "It was changed since you read it: read it again and repeat.")
            }
            ControlError::Busy { id, kind } => Self::new(
                C::Conflict,
                format!("A {kind} is under way: wait for GET /api/operations/{id} and try again."),
            )
            .with_details(json!({ "operation_id": id }))
            .with_retry_after(2),
            ControlError::NotNow(status) => {
                Self::new(C::Conflict, format!("Not possible while the instance is {status}."))
                    .with_details(json!({ "status": status }))
            }
            ControlError::EntitlementRequired => Self::new(
                C::Forbidden,
                "An instance needs an invite code: pass invite_code, or redeem one with POST /api/invites/redeem. \
                 The operator of this service gives them out.",
            )
            .with_details(json!({ "reason": "subscription_or_invite_required" })),
            ControlError::InviteInvalid => Self::new(
                C::Forbidden,
                "This invite code is not valid, has ended or is used up: ask for another one.",
            )
            .with_details(json!({ "reason": "invite_invalid" })),
            ControlError::BadCredentials => Self::unauthorized("Wrong e-mail address or password."),
            ControlError::Locked => {
                Self::new(C::Forbidden, "This account is locked: ask the operator of this service.")
                    .with_details(json!({ "reason": "account_locked" }))
            }
            ControlError::Overloaded => {
                Self::new(C::Capacity, "Too much is waiting: try again in a moment.").with_retry_after(1)
            }
            ControlError::Runtime(cause) => Self::from_runtime(cause),
            ControlError::Db(error) => error.into(),
            ControlError::Secret | ControlError::Io(_) => Self::internal(error),
        }
    }
}

impl ApiError {
    fn from_runtime(error: impl Error + Send + Sync + 'static) -> Self {
        let mut answer = Self::new(
            ErrorCode::UpstreamError,
            "The place where instances run did not do what it was told. Try again in a moment.",
        );
        answer.cause = Some(Arc::new(error));
        answer
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Conflict(Unique::UserEmail) => {
                Self::new(ErrorCode::Conflict, "An account with this e-mail address exists: sign in instead.")
            }
            DbError::Unavailable(_) => {
                let mut answer =
                    Self::new(ErrorCode::Capacity, "The database is busy: try again in a moment.")
                        .with_retry_after(1);
                answer.cause = Some(Arc::new(error));
                answer
            }
            DbError::Conflict(_) | DbError::Other(_) => Self::internal(error),
        }
    }
}

/// Answers a path that no route has.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "There is no such path. GET /api lists what there is.")
}

/// Answers a method that the path has not; `Allow` says which it has.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "This path has other methods: see the header Allow.")
}
