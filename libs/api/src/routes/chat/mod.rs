//! `/api/instances/{id}/chat`: passed to the door; the answer's body is the door's.
//!
//! The door validates what it gets; the control plane parses nothing of it.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    response::Response,
};
use reef_door::chat::{
    ChatMessage, ChatRequest, ChatSession, CreateChatSession, EventBody, PatchChatSession, Turn,
};
use reef_model::{ChatSessionId, InstanceId, TurnId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState, caller::Chat, extract::Path, forward::forward, instance_route::InstanceRoute,
};

/// How long the door may take to answer what it has at hand.
const PROMPT: Duration = Duration::from_secs(30);
/// `POST …/chat` answers at the end of the turn: the longest `timeout_seconds`, and some.
const TURN: Duration = Duration::from_secs(3_660);

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(send))
        .routes(routes!(stream))
        .routes(routes!(list_sessions, create_session))
        .routes(routes!(rename_session, delete_session))
        .routes(routes!(messages))
        .routes(routes!(events))
        .routes(routes!(turn))
        .routes(routes!(cancel))
}

/// Sends a message and waits for the answer.
///
/// The turn goes on when the connection breaks or the wait is over (504, with the turn in `error.details`); read it at
/// `…/chat/turns/{turn_id}` or follow it at `…/chat/events`.
#[utoipa::path(
    post, path = "/api/instances/{id}/chat", operation_id = "chat", tag = "Chat",
    params(
        ("id" = InstanceId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key follows the turn that the first one started. At most 255 characters, kept for 24 h."),
    ),
    request_body(content = ChatRequest, example = json!({"message": "Which files are in /workspace?"})),
    responses((status = 200, description = "The whole answer.", body = Turn)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn send(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat", TURN, request).await
}

/// Sends a message and streams the answer (SSE).
///
/// Events: `turn.started`, `message.created`, `message.delta`, `tool.started`, `tool.completed`, `message.completed`, and one
/// of `turn.completed`, `turn.failed`, `turn.cancelled`, `turn.interrupted` as the last. `id` grows strictly.
#[utoipa::path(
    post, path = "/api/instances/{id}/chat/stream", operation_id = "chatStream", tag = "Chat",
    params(
        ("id" = InstanceId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key follows the turn that the first one started. At most 255 characters, kept for 24 h."),
    ),
    request_body(content = ChatRequest, example = json!({"message": "Summarize the latest logs in /workspace/logs"})),
    responses((status = 200, description = "Server-sent events; `data` is an EventBody.", body = EventBody, content_type = "text/event-stream")),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("sse"))),
)]
async fn stream(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat/stream", PROMPT, request).await
}

/// Lists chat sessions, newest first.
#[utoipa::path(
    get, path = "/api/instances/{id}/chat/sessions", operation_id = "listChatSessions", tag = "Chat",
    params(
        ("id" = InstanceId, Path),
        ("limit" = Option<u32>, Query, description = "Items per page.", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `X-Next-Cursor` of the page before."),
    ),
    responses((status = 200, description = "One page.", body = Vec<ChatSession>)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn list_sessions(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat/sessions", PROMPT, request).await
}

/// Begins a chat session.
#[utoipa::path(
    post, path = "/api/instances/{id}/chat/sessions", operation_id = "createChatSession", tag = "Chat",
    params(("id" = InstanceId, Path)),
    request_body(content = CreateChatSession, example = json!({"title": "Quarterly report"})),
    responses((status = 201, description = "The session.", body = ChatSession)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn create_session(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat/sessions", PROMPT, request).await
}

/// Renames a chat session.
#[utoipa::path(
    patch, path = "/api/instances/{id}/chat/sessions/{sid}", operation_id = "renameChatSession", tag = "Chat",
    params(("id" = InstanceId, Path), ("sid" = ChatSessionId, Path)),
    request_body(content = PatchChatSession, example = json!({"title": "Annual report"})),
    responses((status = 200, description = "The session.", body = ChatSession)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn rename_session(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    ids: Path<(InstanceId, ChatSessionId)>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, &format!("/chat/sessions/{}", ids.0.1), PROMPT, request).await
}

/// Deletes a chat session with its messages.
#[utoipa::path(
    delete, path = "/api/instances/{id}/chat/sessions/{sid}", operation_id = "deleteChatSession", tag = "Chat",
    params(("id" = InstanceId, Path), ("sid" = ChatSessionId, Path)),
    responses((status = 204, description = "It is gone.")),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(true)), ("x-reef-kind" = json!("destructive"))),
)]
async fn delete_session(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    ids: Path<(InstanceId, ChatSessionId)>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, &format!("/chat/sessions/{}", ids.0.1), PROMPT, request).await
}

/// Lists messages, oldest first.
#[utoipa::path(
    get, path = "/api/instances/{id}/chat/messages", operation_id = "listChatMessages", tag = "Chat",
    params(
        ("id" = InstanceId, Path),
        ("session_id" = Option<ChatSessionId>, Query, description = "Of this session; left out: of the newest."),
        ("tail" = Option<bool>, Query, description = "The newest `limit` messages instead of the oldest."),
        ("limit" = Option<u32>, Query, description = "At most so many.", minimum = 1, maximum = 200),
        ("before" = Option<u64>, Query, description = "Only those with a smaller `event_id`."),
        ("after" = Option<u64>, Query, description = "Only those with a greater `event_id`."),
    ),
    responses((status = 200, description = "Messages.", body = Vec<ChatMessage>)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn messages(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat/messages", PROMPT, request).await
}

/// Follows a session (SSE): persisted messages, with `deltas=true` everything.
#[utoipa::path(
    get, path = "/api/instances/{id}/chat/events", operation_id = "followChat", tag = "Chat",
    params(
        ("id" = InstanceId, Path),
        ("session_id" = Option<ChatSessionId>, Query, description = "Of this session; left out: of the newest."),
        ("after" = Option<u64>, Query, description = "Only events with a greater id; the header `Last-Event-ID` says the same."),
        ("deltas" = Option<bool>, Query, description = "The full stream, as `chat/stream` has it."),
    ),
    responses((status = 200, description = "Server-sent events; `data` is an EventBody.", body = EventBody, content_type = "text/event-stream")),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("sse"))),
)]
async fn events(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/chat/events", PROMPT, request).await
}

/// Tells how a turn stands.
#[utoipa::path(
    get, path = "/api/instances/{id}/chat/turns/{turn_id}", operation_id = "getTurn", tag = "Chat",
    params(("id" = InstanceId, Path), ("turn_id" = TurnId, Path)),
    responses((status = 200, description = "The turn.", body = Turn)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn turn(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    ids: Path<(InstanceId, TurnId)>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, &format!("/chat/turns/{}", ids.0.1), PROMPT, request).await
}

/// Stops a turn; does nothing where it has ended.
#[utoipa::path(
    post, path = "/api/instances/{id}/chat/turns/{turn_id}/cancel", operation_id = "cancelTurn", tag = "Chat",
    params(("id" = InstanceId, Path), ("turn_id" = TurnId, Path)),
    responses((status = 200, description = "The turn as it is now.", body = Turn)),
    extensions(("x-reef-scope" = json!("chat")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn cancel(
    route: InstanceRoute<Chat>,
    State(state): State<ApiState>,
    ids: Path<(InstanceId, TurnId)>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, &format!("/chat/turns/{}/cancel", ids.0.1), PROMPT, request).await
}
