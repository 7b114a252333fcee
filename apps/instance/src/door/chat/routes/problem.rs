//! Problems of chat.

use reef_door::ErrorCode;
use serde_json::json;

use super::super::log::{AcceptError, LogError, OPEN_TURNS};
use crate::door::named::name_reused;
pub(super) use crate::door::problem::{Body, Params, Problem, render};

impl Problem {
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

    /// The log holds as much as it may.
    fn log_full(limit_bytes: u64) -> Self {
        Self::new(
            ErrorCode::QuotaExceeded,
            "The chat log of this instance is full. Delete chat sessions that you no longer need, then try again.",
        )
        .with(json!({ "reason": "chat_log_full", "limit_bytes": limit_bytes }))
    }
}

impl Problem {
    /// The session can be read, and that is all.
    pub(super) fn foreign_session() -> Self {
        Self::new(
            ErrorCode::Conflict,
            "This conversation did not begin here (see its origin): it can be read, followed and deleted. Write in another session.",
        )
        .with(json!({ "reason": "foreign_session" }))
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(_) => return Self::stuck(),
            LogError::Capped(limit) => return Self::log_full(limit),
            LogError::Sql(_) | LogError::Json(_) => {}
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
            AcceptError::Foreign => Self::foreign_session(),
            AcceptError::KeyReused => name_reused(),
            AcceptError::TooManyTurns => Self::new(
                ErrorCode::QuotaExceeded,
                "Too many turns wait in this instance. Wait until some have ended, or cancel them.",
            )
            .with(json!({ "reason": "too_many_turns", "limit": OPEN_TURNS })),
            AcceptError::Log(error) => error.into(),
        }
    }
}
