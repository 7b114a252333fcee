//! The routes of chat. What they take is checked here, what they do is the engine's and the log's.

mod follow;
mod problem;
mod sessions;
mod turns;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, patch, post},
};

use super::Chat;
use crate::door::held::MAX_BODY;

/// Returns `/chat…` without authentication.
pub(super) fn router(chat: Arc<Chat>) -> Router {
    Router::new()
        .route("/chat", post(turns::chat))
        .route("/chat/stream", post(turns::stream))
        .route("/chat/turns/{turn_id}", get(turns::get))
        .route("/chat/turns/{turn_id}/cancel", post(turns::cancel))
        .route("/chat/events", get(follow::events))
        .route("/chat/messages", get(follow::messages))
        .route("/chat/sessions", get(sessions::list).post(sessions::create))
        .route(
            "/chat/sessions/{session_id}",
            patch(sessions::rename).delete(sessions::delete).get(sessions::get),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(problem::render))
        .with_state(chat)
}
