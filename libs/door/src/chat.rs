//! Chat: requests, answers and events.
//!
//! Every event of an instance has one id from one strictly increasing sequence; a session's stream is the events of
//! that session in id order. A turn has exactly one terminal event ([`EventBody::is_terminal`]).

use reef_model::{ChatSessionId, MessageId, Timestamp, TurnId};
use utoipa::ToSchema;

/// Where a run began that did not begin at the chat routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ChatOrigin)]
pub enum Origin {
    /// The OpenAI-compatible routes of the gateway.
    Api,
    /// The gateway's own interface, a direct message to the agent's main session for instance.
    Gateway,
    /// A group or a room of a messenger.
    Channel,
    /// A schedule or a webhook.
    Schedule,
    /// The agent itself: a sub-agent.
    Agent,
}

impl Origin {
    /// Returns the word, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Gateway => "gateway",
            Self::Channel => "channel",
            Self::Schedule => "schedule",
            Self::Agent => "agent",
        }
    }
}

/// A chat session.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ChatSession {
    /// Its id.
    pub id: ChatSessionId,
    /// Its title; the beginning of the first message unless it was named.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Messages of both sides.
    pub message_count: u64,
    /// The id of its last event, 0 before the first.
    pub last_event_id: u64,
    /// Whose conversation it is, if not of the chat routes: it can be read and followed here, and deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The body of `POST …/chat/sessions`.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateChatSession {
    /// At most 200 characters.
    #[serde(default)]
    pub title: Option<String>,
}

/// The body of `PATCH …/chat/sessions/{sid}`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchChatSession {
    /// 1 to 200 characters.
    pub title: String,
}

/// The body of `POST …/chat` and `POST …/chat/stream`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// What to say; 1 byte to 1 MiB, not only white space unless there are attachments.
    pub message: String,
    /// The session; none: the newest one, or a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<ChatSessionId>,
    /// Files for the agent; at most 16, together at most 15 MiB decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// How long `POST …/chat` waits for the end of the turn; 1 to 3600, default 600. The turn itself goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// What becomes of the turn when the client goes away before its end.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
}

/// What becomes of a turn whose client goes away.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes on, and can be followed at `…/chat/events?after=`.
    #[default]
    Detach,
    /// It is cancelled.
    Cancel,
}

/// A file that goes with a message.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// File name, 1 to 255 bytes, no `/`.
    pub name: String,
    /// Media type, `image/png` for instance.
    pub mime_type: String,
    /// The bytes in base64 (RFC 4648 §4).
    pub content: String,
}

/// How a turn stands. An interrupted answer is never shown as a completed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// Waits for the turn before it.
    Queued,
    /// The agent works.
    Running,
    /// Answered.
    Completed,
    /// The agent or its model failed; see `error`.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Something was killed in the middle, and the answer was not recovered.
    Interrupted,
}

impl TurnStatus {
    /// Tells whether nothing more will come.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Returns the word, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Model tokens of a turn, as the gateway counted them.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// Why a turn did not complete.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TurnError {
    /// A word: `model_error`, `gateway_lost`, `gateway_unavailable`, `rejected`, `steered`, `timeout`, `stopping`,
    /// `storage_failed`, `log_full`, `reply_too_large`.
    pub code: String,
    /// What happened and what to do, for a person.
    pub message: String,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageRole)]
pub enum Role {
    /// The person or program that chats.
    User,
    /// The agent.
    Assistant,
    /// The gateway itself, a reset for instance.
    System,
}

/// One tool call of a turn.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ToolCall {
    /// The gateway's id of the call.
    pub id: String,
    /// The tool, `exec` for instance.
    pub name: String,
    /// Arguments, as the gateway gave them; bounded to 64 KiB of JSON, else null.
    #[schema(value_type = Object)]
    #[serde(default)]
    pub arguments: serde_json::Value,
    /// Text of the result, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether the tool failed; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
}

/// A persisted message.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ChatMessage {
    /// Its id.
    pub id: MessageId,
    /// The session.
    pub session_id: ChatSessionId,
    /// The turn.
    pub turn_id: TurnId,
    /// Who wrote it.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// The turn's status when the message was written (`completed` for the user's own); a partial answer says
    /// `cancelled`, `failed` or `interrupted`.
    pub status: TurnStatus,
    /// The event that made it.
    pub event_id: u64,
    /// When it was written.
    pub created_at: Timestamp,
    /// Tokens of the turn, on the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Tool calls of the turn, on the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolCall>,
    /// Names of the files that came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

/// A turn: `GET …/chat/turns/{turn_id}`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Turn {
    /// Its id.
    pub turn_id: TurnId,
    /// The session.
    pub session_id: ChatSessionId,
    /// How it stands.
    pub status: TurnStatus,
    /// The text of the answer so far, or all of it.
    pub reply: String,
    /// The answer, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<ChatMessage>,
    /// Tokens, once counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnError>,
    /// The turn's last event: follow on with `…/chat/events?after=`.
    pub event_id: u64,
    /// Where it began, if not at the chat routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The data of one SSE event; `event:` is [`EventBody::name`], `id:` the event's id.
///
/// The data alone does not say which event it is: read it with [`EventBody::parse`].
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum EventBody {
    /// `message.created`: the user's message was taken.
    MessageCreated(MessageEvent),
    /// `message.completed`: the answer is whole, or as whole as it will be.
    MessageCompleted(MessageEvent),
    /// `turn.started`: the turn is in the log; it may still wait for the one before it.
    TurnStarted(TurnStarted),
    /// `message.delta`: text to append to the answer.
    MessageDelta(MessageDelta),
    /// `tool.started`.
    ToolStarted(ToolEvent),
    /// `tool.completed`.
    ToolCompleted(ToolEvent),
    /// `turn.completed`, `turn.failed`, `turn.cancelled` or `turn.interrupted`: the last event of the turn.
    TurnEnded(TurnEnded),
}

/// Data of `turn.started`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TurnStarted {
    /// The turn.
    pub turn_id: TurnId,
    /// The session.
    pub session_id: ChatSessionId,
    /// Where it began, if not at the chat routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Data of `message.created` and `message.completed`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct MessageEvent {
    /// The turn.
    pub turn_id: TurnId,
    /// The message.
    pub message: ChatMessage,
}

/// Data of `message.delta`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct MessageDelta {
    /// The turn.
    pub turn_id: TurnId,
    /// Text to append.
    pub text: String,
}

/// Data of `tool.started` and `tool.completed`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ToolEvent {
    /// The turn.
    pub turn_id: TurnId,
    /// The call so far.
    pub tool: ToolCall,
}

/// Data of the terminal events.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TurnEnded {
    /// The turn.
    pub turn_id: TurnId,
    /// `completed`, `failed`, `cancelled` or `interrupted`.
    pub status: TurnStatus,
    /// Tokens, where counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnError>,
}

// Written out: two events have the same data, so "one of" (which the derive says) would be none of them.
impl utoipa::PartialSchema for EventBody {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let datas = [
            TurnStarted::name(),
            MessageEvent::name(),
            MessageDelta::name(),
            ToolEvent::name(),
            TurnEnded::name(),
        ];
        datas
            .into_iter()
            .fold(utoipa::openapi::schema::AnyOfBuilder::new(), |any, name| {
                any.item(utoipa::openapi::Ref::from_schema_name(name))
            })
            .description(Some(
                "The data of one event; `event:` says which it is. `turn.started`: TurnStarted. `message.created`, \
                 `message.completed`: MessageEvent. `message.delta`: MessageDelta. `tool.started`, `tool.completed`: \
                 ToolEvent. `turn.completed`, `turn.failed`, `turn.cancelled`, `turn.interrupted`: TurnEnded, the \
                 turn's last event.",
            ))
            .into()
    }
}

impl utoipa::ToSchema for EventBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventBody".into()
    }

    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
        fn add<T: ToSchema>(
            schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>,
        ) {
            T::schemas(schemas);
            schemas.push((T::name().into_owned(), T::schema()));
        }
        add::<Origin>(schemas);
        add::<TurnStarted>(schemas);
        add::<MessageEvent>(schemas);
        add::<MessageDelta>(schemas);
        add::<ToolEvent>(schemas);
        add::<TurnEnded>(schemas);
    }
}

impl EventBody {
    /// Returns the SSE event name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MessageCreated(_) => "message.created",
            Self::MessageCompleted(_) => "message.completed",
            Self::TurnStarted(_) => "turn.started",
            Self::MessageDelta(_) => "message.delta",
            Self::ToolStarted(_) => "tool.started",
            Self::ToolCompleted(_) => "tool.completed",
            Self::TurnEnded(ended) => match ended.status {
                TurnStatus::Completed => "turn.completed",
                TurnStatus::Cancelled => "turn.cancelled",
                TurnStatus::Failed => "turn.failed",
                TurnStatus::Interrupted | TurnStatus::Queued | TurnStatus::Running => "turn.interrupted",
            },
        }
    }

    /// Reads the data of an SSE event; `None` for an event of a newer version.
    ///
    /// # Errors
    /// When the data does not have the shape that goes with the name.
    pub fn parse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        use serde_json::from_str;
        Ok(Some(match name {
            "message.created" => Self::MessageCreated(from_str(data)?),
            "message.completed" => Self::MessageCompleted(from_str(data)?),
            "turn.started" => Self::TurnStarted(from_str(data)?),
            "message.delta" => Self::MessageDelta(from_str(data)?),
            "tool.started" => Self::ToolStarted(from_str(data)?),
            "tool.completed" => Self::ToolCompleted(from_str(data)?),
            "turn.completed" | "turn.failed" | "turn.cancelled" | "turn.interrupted" => {
                Self::TurnEnded(from_str(data)?)
            }
            _ => return Ok(None),
        }))
    }

    /// Tells whether this is a turn's last event.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::TurnEnded(_))
    }

    /// Tells whether a follower sees this without `deltas=true`: messages, and how turns end.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::MessageCreated(_) | Self::MessageCompleted(_) | Self::TurnEnded(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_their_names() {
        let turn_id = TurnId::generate();
        let all = [
            EventBody::TurnStarted(TurnStarted {
                turn_id,
                session_id: ChatSessionId::generate(),
                origin: Some(Origin::Channel),
            }),
            EventBody::MessageDelta(MessageDelta { turn_id, text: "hi".into() }),
            EventBody::TurnEnded(TurnEnded {
                turn_id,
                status: TurnStatus::Interrupted,
                usage: None,
                error: Some(TurnError { code: "gateway_lost".into(), message: "gone".into() }),
            }),
        ];
        for event in all {
            let data = serde_json::to_string(&event).unwrap();
            assert_eq!(EventBody::parse(event.name(), &data).unwrap(), Some(event));
        }
        assert_eq!(EventBody::parse("turn.of_a_newer_door", "{}").unwrap(), None);
    }
}
