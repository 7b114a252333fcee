//! What hands could not do, as answers.

use http::StatusCode;
use reef_door::ErrorCode;
use serde_json::json;

use crate::{
    door::{problem::Problem, work::WorkError},
    wire::work::{Failure, FailureKind},
};

/// Characters of a message from hands that are passed on.
const MAX_MESSAGE: usize = 1000;

impl From<Failure> for Problem {
    fn from(Failure { kind, message }: Failure) -> Self {
        use FailureKind as Kind;
        let mut text: String = message.chars().take(MAX_MESSAGE).collect();
        text.push('.');
        let (code, reason) = match kind {
            Kind::NotFound => (ErrorCode::NotFound, "not_found"),
            Kind::Exists => (ErrorCode::Conflict, "exists"),
            Kind::NotEmpty => (ErrorCode::Conflict, "not_empty"),
            Kind::NotADirectory => (ErrorCode::Conflict, "not_a_directory"),
            Kind::IsADirectory => (ErrorCode::Conflict, "is_a_directory"),
            Kind::Changed | Kind::Torn => (ErrorCode::Conflict, "changed"),
            Kind::Denied => (ErrorCode::Forbidden, "permission_denied"),
            Kind::Outside => (ErrorCode::InvalidRequest, "outside"),
            Kind::Invalid => (ErrorCode::InvalidRequest, "invalid"),
            Kind::NotAFile => (ErrorCode::InvalidRequest, "not_a_file"),
            Kind::NoSpace => (ErrorCode::Capacity, "disk_full"),
            Kind::Quota => (ErrorCode::QuotaExceeded, "disk_quota"),
            Kind::Limit => (ErrorCode::Capacity, "busy"),
            Kind::TooLarge => (ErrorCode::InvalidRequest, "too_large"),
            Kind::Io => (ErrorCode::UpstreamError, "io"),
        };
        let problem = Self::new(code, text).with(json!({ "reason": reason }));
        match kind {
            Kind::Changed => problem.status(StatusCode::PRECONDITION_FAILED),
            Kind::NotAFile | Kind::TooLarge => problem.status(StatusCode::UNPROCESSABLE_ENTITY),
            _ => problem,
        }
    }
}

/// Hands, or what took its place, answered with something else.
pub(super) fn nonsense() -> Problem {
    WorkError::Nonsense.into()
}
