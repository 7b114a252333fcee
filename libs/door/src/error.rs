//! The one error body, from the control plane and from the door alike.

use std::borrow::Cow;

/// What went wrong, as a word that a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// No credentials, or bad ones.
    Unauthorized,
    /// Known and refused.
    Forbidden,
    /// A subscription is needed.
    PaymentRequired,
    /// Does not exist, or the caller may not know that it does.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// Contradicts the present state.
    Conflict,
    /// The instance cannot serve this now; `details.status` says what it does.
    InstanceNotReady,
    /// The body is larger than the route takes.
    PayloadTooLarge,
    /// The request is malformed; `details.fields` names the fields.
    InvalidRequest,
    /// Too many requests; see `Retry-After`.
    RateLimited,
    /// A cap is used up; the message says which.
    QuotaExceeded,
    /// The instance or the model behind it failed.
    UpstreamError,
    /// No room for another instance now.
    Capacity,
    /// The instance did not answer in time.
    UpstreamTimeout,
    /// Our fault; the request id finds it in the log.
    InternalError,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        Self::Unauthorized,
        Self::Forbidden,
        Self::PaymentRequired,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::InstanceNotReady,
        Self::PayloadTooLarge,
        Self::InvalidRequest,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::UpstreamError,
        Self::Capacity,
        Self::UpstreamTimeout,
        Self::InternalError,
    ];

    /// Returns the word, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::PaymentRequired => "PAYMENT_REQUIRED",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::InstanceNotReady => "INSTANCE_NOT_READY",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::RateLimited => "RATE_LIMITED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::UpstreamError => "UPSTREAM_ERROR",
            Self::Capacity => "CAPACITY",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Returns the HTTP status that goes with the code (`InvalidRequest` may also go with 422).
    pub const fn status(self) -> http::StatusCode {
        use http::StatusCode as S;
        match self {
            Self::Unauthorized => S::UNAUTHORIZED,
            Self::Forbidden => S::FORBIDDEN,
            Self::PaymentRequired => S::PAYMENT_REQUIRED,
            Self::NotFound => S::NOT_FOUND,
            Self::MethodNotAllowed => S::METHOD_NOT_ALLOWED,
            Self::Conflict | Self::InstanceNotReady => S::CONFLICT,
            Self::PayloadTooLarge => S::PAYLOAD_TOO_LARGE,
            Self::InvalidRequest => S::BAD_REQUEST,
            Self::RateLimited | Self::QuotaExceeded => S::TOO_MANY_REQUESTS,
            Self::UpstreamError => S::BAD_GATEWAY,
            Self::Capacity => S::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout => S::GATEWAY_TIMEOUT,
            Self::InternalError => S::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every error answer.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What happened and what to do next, for a person.
    pub message: Cow<'static, str>,
    /// The same for a program.
    pub error: ErrorDetail,
    /// Finds the request in the operator's log.
    pub request_id: String,
}

/// The inner part of [`ErrorBody`].
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// The code; `/docs/errors/{code}` explains it.
    pub code: ErrorCode,
    /// The same message.
    pub message: Cow<'static, str>,
    /// Facts that go with the code; an object, empty where there are none.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

impl ErrorBody {
    /// Returns a body; `details` is an object, or `Null` for none.
    pub fn new(
        code: ErrorCode,
        message: impl Into<Cow<'static, str>>,
        details: serde_json::Value,
        request_id: impl Into<String>,
    ) -> Self {
        let message = message.into();
        let details = if details.is_null() { serde_json::json!({}) } else { details };
        Self {
            error: ErrorDetail { code, message: message.clone(), details },
            message,
            request_id: request_id.into(),
        }
    }
}
