//! `/api/instances/{id}/chat`: passed to the door; the answer's body is the door's.
//!
//! The door validates what it gets; the control plane parses nothing of it.

use reef_door::chat::{
    ChatMessage, ChatRequest, ChatSession, CreateChatSession, EventBody, PatchChatSession, Turn,
};
use reef_model::{ChatSessionId, TurnId};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, caller::Chat, forward::Way, routes::pass::passed_on};

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

passed_on! {
    right: Chat, scope: "chat", tag: "Chat";

    /// Sends a message and waits for the answer.
    ///
    /// The turn goes on when the connection breaks or the wait is over (504, with the turn in `error.details`); read it at
    /// `…/chat/turns/{turn_id}` or follow it at `…/chat/events`.
    post "/chat" send = "chat" {
        way: Way::WORK.with_gateway(), kind: "passthrough", wakes: true,
        params: [
            ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key follows the turn that the first one started. At most 255 characters, kept for 24 h."),
        ],
        request_body(content = ChatRequest, example = json!({"message": "Which files are in /workspace?"})),
        responses((status = 200, description = "The whole answer.", body = Turn)),
    }

    /// Sends a message and streams the answer (SSE).
    ///
    /// Events: `turn.started`, `message.created`, `message.delta`, `tool.started`, `tool.completed`, `message.completed`, and one
    /// of `turn.completed`, `turn.failed`, `turn.cancelled`, `turn.interrupted` as the last. `id` grows strictly.
    post "/chat/stream" stream = "chatStream" {
        way: Way::STREAM.with_gateway(), kind: "sse", wakes: true,
        params: [
            ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key follows the turn that the first one started. At most 255 characters, kept for 24 h."),
        ],
        request_body(content = ChatRequest, example = json!({"message": "Summarize the latest logs in /workspace/logs"})),
        responses((status = 200, description = "Server-sent events; `data` is an EventBody.", body = EventBody, content_type = "text/event-stream")),
    }

    /// Lists chat sessions, newest first.
    get "/chat/sessions" list_sessions = "listChatSessions" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: true,
        params: [
            ("limit" = Option<u32>, Query, description = "Items per page.", minimum = 1, maximum = 200),
            ("cursor" = Option<String>, Query, description = "The `X-Next-Cursor` of the page before."),
        ],
        responses((status = 200, description = "One page.", body = Vec<ChatSession>)),
    }

    /// Begins a chat session.
    post "/chat/sessions" create_session = "createChatSession" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: true,
        params: [],
        request_body(content = CreateChatSession, example = json!({"title": "Quarterly report"})),
        responses((status = 201, description = "The session.", body = ChatSession)),
    }

    /// Renames a chat session.
    patch "/chat/sessions/{sid}" rename_session = "renameChatSession" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: true,
        params: [("sid" = ChatSessionId, Path)],
        request_body(content = PatchChatSession, example = json!({"title": "Annual report"})),
        responses((status = 200, description = "The session.", body = ChatSession)),
    }

    /// Deletes a chat session with its messages.
    delete "/chat/sessions/{sid}" delete_session = "deleteChatSession" {
        way: Way::PROMPT.with_gateway(), kind: "destructive", wakes: true,
        params: [("sid" = ChatSessionId, Path)],
        responses((status = 204, description = "It is gone.")),
    }

    /// Lists messages, oldest first.
    get "/chat/messages" messages = "listChatMessages" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: false,
        params: [
            ("session_id" = Option<ChatSessionId>, Query, description = "Of this session; left out: of the newest."),
            ("tail" = Option<bool>, Query, description = "The newest `limit` messages instead of the oldest."),
            ("limit" = Option<u32>, Query, description = "At most so many.", minimum = 1, maximum = 200),
            ("before" = Option<u64>, Query, description = "Only those with a smaller `event_id`."),
            ("after" = Option<u64>, Query, description = "Only those with a greater `event_id`."),
        ],
        responses((status = 200, description = "Messages.", body = Vec<ChatMessage>)),
    }

    /// Follows a session (SSE): persisted messages, with `deltas=true` everything.
    get "/chat/events" events = "followChat" {
        way: Way::STREAM.with_gateway(), kind: "sse", wakes: false,
        params: [
            ("session_id" = Option<ChatSessionId>, Query, description = "Of this session; left out: of the newest."),
            ("after" = Option<u64>, Query, description = "Only events with a greater id; the header `Last-Event-ID` says the same."),
            ("deltas" = Option<bool>, Query, description = "The full stream, as `chat/stream` has it."),
        ],
        responses((status = 200, description = "Server-sent events; `data` is an EventBody.", body = EventBody, content_type = "text/event-stream")),
    }

    /// Tells how a turn stands.
    get "/chat/turns/{turn_id}" turn = "getTurn" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: false,
        params: [("turn_id" = TurnId, Path)],
        responses((status = 200, description = "The turn.", body = Turn)),
    }

    /// Stops a turn; does nothing where it has ended.
    post "/chat/turns/{turn_id}/cancel" cancel = "cancelTurn" {
        way: Way::PROMPT.with_gateway(), kind: "passthrough", wakes: false,
        params: [("turn_id" = TurnId, Path)],
        responses((status = 200, description = "The turn as it is now.", body = Turn)),
    }
}
