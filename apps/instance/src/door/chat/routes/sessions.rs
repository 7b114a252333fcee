//! `…/chat/sessions`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use reef_door::chat::{CreateChatSession, PatchChatSession};
use reef_model::ChatSessionId;

use super::{
    follow::mark_next,
    problem::{Body, Params, Problem},
    turns::fingerprint,
};
use crate::door::{
    chat::{Chat, log::Accepted},
    named::mark_replayed,
};

const TITLE_CHARS: usize = 200;

/// Lists sessions, newest first.
pub(super) async fn list(State(chat): State<Arc<Chat>>, params: Params) -> Result<Response, Problem> {
    let limit = params.limit()?;
    let cursor = params.get("cursor", "the X-Next-Cursor of an earlier page")?;
    let mut sessions = chat.log.list_sessions(cursor, limit + 1).await?;
    let has_more = sessions.len() > limit as usize;
    sessions.truncate(limit as usize);
    let next = sessions.last().filter(|_| has_more).map(|last| last.id.to_string());
    let mut response = Json(sessions).into_response();
    if let Some(next) = next {
        mark_next(&mut response, &next, &format!("<?cursor={next}&limit={limit}>"));
    }
    Ok(response)
}

/// Makes a session.
pub(super) async fn create(
    State(chat): State<Arc<Chat>>,
    headers: HeaderMap,
    body: Body<CreateChatSession>,
) -> Result<Response, Problem> {
    let title = body.value.title.unwrap_or_default();
    if title.chars().count() > TITLE_CHARS {
        return Err(Problem::field("title", "must be at most 200 characters"));
    }
    let fingerprint = fingerprint(&headers, "sessions", &body.bytes)?;
    let (id, is_replay) = match chat.create_session(title.trim().to_owned(), fingerprint).await? {
        Accepted::New(id) => (id, false),
        Accepted::Replayed(id) => (ChatSessionId::from_uuid(id), true),
    };
    let session = chat.log.session(id).await?.ok_or_else(Problem::no_session)?;
    let mut response = (StatusCode::CREATED, Json(session)).into_response();
    if is_replay {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// Returns a session.
pub(super) async fn get(State(chat): State<Arc<Chat>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let session = chat.log.session(session_id(&id)?).await?.ok_or_else(Problem::no_session)?;
    Ok(Json(session).into_response())
}

/// Names a session.
pub(super) async fn rename(
    State(chat): State<Arc<Chat>>,
    Path(id): Path<String>,
    body: Body<PatchChatSession>,
) -> Result<Response, Problem> {
    let id = session_id(&id)?;
    let title = body.value.title.trim();
    if title.is_empty() || title.chars().count() > TITLE_CHARS {
        return Err(Problem::field("title", "must be 1 to 200 characters"));
    }
    if chat.log.session(id).await?.is_some_and(|session| session.origin.is_some()) {
        return Err(Problem::foreign_session());
    }
    chat.rename_session(id, title.to_owned()).await?;
    let session = chat.log.session(id).await?.ok_or_else(Problem::no_session)?;
    Ok(Json(session).into_response())
}

/// Deletes a session and what was said in it, here and in the gateway.
pub(super) async fn delete(
    State(chat): State<Arc<Chat>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    if !chat.delete_session(session_id(&id)?).await? {
        return Err(Problem::no_session());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn session_id(text: &str) -> Result<ChatSessionId, Problem> {
    text.parse().map_err(|_| Problem::no_session())
}
