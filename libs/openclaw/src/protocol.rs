//! Rows and events of the gateway that chat needs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// Parameters of `chat.send`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatSend<'a> {
    /// The session, lower case (`agent:main:…`).
    pub session_key: &'a str,
    /// The text.
    pub message: &'a str,
    /// Names the run; sending twice with the same one is safe while the gateway lives.
    pub idempotency_key: &'a str,
    /// Files.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub attachments: &'a [Attachment],
}

/// A file of `chat.send`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `file`.
    pub r#type: &'static str,
    /// Media type.
    pub mime_type: String,
    /// Name.
    pub file_name: String,
    /// Base64.
    pub content: String,
}

/// Answer of `chat.send`.
#[derive(Debug, Clone, Deserialize)]
pub struct ChatSent {
    /// `started`, `in_flight` (the same key runs already) or `ok` (it is over).
    pub status: String,
}

/// Answer of `chat.history`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Rows, oldest first.
    pub messages: Vec<Row>,
    /// The run that streams at this moment.
    pub in_flight_run: Option<InFlightRun>,
    /// The session's state.
    pub session_info: Option<SessionInfo>,
}

/// A run that streams.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlightRun {
    /// Its id.
    pub run_id: String,
    /// Its text so far.
    #[serde(default)]
    pub text: String,
}

/// State of a session.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionInfo {
    /// Whether something runs, or is about to be resumed after a restart of the gateway.
    pub has_active_run: bool,
}

/// One row of a transcript.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Row {
    /// `user`, `assistant`, `toolResult`, `system` or `custom`.
    pub role: String,
    /// A string, or blocks of text and tool calls.
    pub content: Value,
    /// `<run id>:user` on the user's row.
    pub idempotency_key: Option<String>,
    /// `stop`, `toolUse`, `error`, …
    pub stop_reason: Option<String>,
    /// Tokens of this model call.
    pub usage: Option<RowUsage>,
    /// Which call a `toolResult` answers.
    pub tool_call_id: Option<String>,
    /// Whether the tool failed.
    pub is_error: bool,
    /// Present on the partial answer of a stopped run.
    pub openclaw_abort: Option<Value>,
    /// The gateway's own marks.
    #[serde(rename = "__openclaw")]
    pub meta: RowMeta,
}

/// The gateway's marks on a row.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RowMeta {
    /// Stable id of the row.
    pub id: String,
    /// The run that wrote it; absent on user rows.
    pub run_id: Option<String>,
    /// On a user row that was taken into a running turn: that run.
    pub steer_target_run_id: Option<String>,
    /// Whether the text is cut.
    pub truncated: bool,
}

/// Tokens of one model call.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct RowUsage {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
}

/// A tool call in an assistant's row.
#[derive(Debug, Clone, PartialEq)]
pub struct CallBlock<'a> {
    /// Its id.
    pub id: &'a str,
    /// The tool.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a Value,
}

impl Row {
    /// Returns the text of the row.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }

    /// Returns the tool calls of the row.
    pub fn calls(&self) -> impl Iterator<Item = CallBlock<'_>> {
        let blocks = self.content.as_array().map(Vec::as_slice).unwrap_or_default();
        blocks.iter().filter(|block| block["type"] == "toolCall").filter_map(|block| {
            Some(CallBlock {
                id: block["id"].as_str()?,
                name: block["name"].as_str()?,
                arguments: &block["arguments"],
            })
        })
    }

    /// Returns the run that a user's row began.
    pub fn started_run(&self) -> Option<&str> {
        if self.role != "user" {
            return None;
        }
        self.idempotency_key.as_deref()?.strip_suffix(":user")
    }

    /// Tells whether the gateway itself wrote this user row to resume a run that a restart had cut off.
    pub fn resumes_after_restart(&self) -> bool {
        self.role == "user" && self.text().starts_with("[System] Your previous turn was interrupted")
    }

    /// Tells whether the row was written by this run.
    pub fn is_of_run(&self, run_id: &str) -> bool {
        if self.meta.run_id.as_deref() == Some(run_id) {
            return true;
        }
        // Answers to slash commands name their run only in the idempotency key.
        self.role != "user"
            && self.idempotency_key.as_deref().is_some_and(|key| key.split(':').next() == Some(run_id))
    }
}

/// Returns the text of a message's content: a string, or blocks of which those of text count.
pub fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter(|block| block["type"] == "text")
            .filter_map(|block| block["text"].as_str())
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// An event that chat acts on.
#[derive(Debug, Clone)]
pub struct Signal {
    /// The session.
    pub session_key: String,
    /// The run; empty for a transcript row that names none.
    pub run_id: String,
    /// What happened.
    pub kind: SignalKind,
}

impl Signal {
    /// Returns about how much memory it takes.
    pub fn bytes(&self) -> usize {
        let kind = match &self.kind {
            SignalKind::Status => 0,
            SignalKind::Delta(text) | SignalKind::Error(text) => text.len(),
            SignalKind::Final(text) => text.as_ref().map_or(0, String::len),
            SignalKind::Aborted { text, reason } => {
                text.as_ref().map_or(0, String::len) + reason.as_ref().map_or(0, String::len)
            }
            SignalKind::ToolStarted { id, name, arguments } => {
                id.len() + name.len() + size_of_json(arguments)
            }
            SignalKind::ToolCompleted { id, name, output, .. } => id.len() + name.len() + output.len(),
            SignalKind::Row(row) => size_of::<Row>() + size_of_json(&row.content) + row.meta.id.len(),
        };
        size_of::<Self>() + self.session_key.len() + self.run_id.len() + kind
    }
}

fn size_of_json(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size_of_json).sum(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| size_of::<String>() + name.len() + size_of_json(value))
                .sum(),
        }
}

/// What happened in a run.
#[derive(Debug, Clone)]
pub enum SignalKind {
    /// It goes on, without text.
    Status,
    /// Its whole text so far.
    Delta(String),
    /// It ended with this answer; none: it was steered into another run.
    Final(Option<String>),
    /// It was stopped, with this partial answer.
    Aborted {
        /// What there is of the answer.
        text: Option<String>,
        /// `rpc` when somebody asked for it.
        reason: Option<String>,
    },
    /// It failed, in the gateway's words.
    Error(String),
    /// A tool was called.
    ToolStarted {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// A tool answered.
    ToolCompleted {
        /// Id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Text of the result.
        output: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// A row was written to the transcript.
    Row(Box<Row>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChatPayload {
    run_id: String,
    session_key: String,
    state: String,
    #[serde(default)]
    message: Option<Content>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentPayload<'a> {
    run_id: String,
    #[serde(default)]
    session_key: String,
    #[serde(default)]
    stream: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolData {
    phase: String,
    tool_call_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    result: Option<Content>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessagePayload {
    session_key: String,
    message: Row,
}

impl Signal {
    /// Reads an event; `None` for those that chat does not act on.
    ///
    /// # Errors
    /// When an event that chat needs has another shape than OpenClaw 2026.9.6 gives it.
    pub fn parse(event: &str, payload: &RawValue) -> Result<Option<Self>, serde_json::Error> {
        match event {
            "chat" => Self::parse_chat(payload).map(Some),
            "agent" | "session.tool" => Self::parse_tool(payload),
            "session.message" => {
                let MessagePayload { session_key, mut message } = serde_json::from_str(payload.get())?;
                if message.role != "user" {
                    // Its text and calls come as events of their own.
                    message.content = Value::Null;
                }
                let run_id = message.meta.run_id.clone().unwrap_or_default();
                Ok(Some(Self { session_key, run_id, kind: SignalKind::Row(Box::new(message)) }))
            }
            _ => Ok(None),
        }
    }

    fn parse_chat(payload: &RawValue) -> Result<Self, serde_json::Error> {
        let chat: ChatPayload = serde_json::from_str(payload.get())?;
        let text = chat.message.map(|message| text_of(&message.content));
        let kind = match chat.state.as_str() {
            "delta" => SignalKind::Delta(text.unwrap_or_default()),
            "final" => SignalKind::Final(text),
            "aborted" => SignalKind::Aborted { text, reason: chat.stop_reason },
            "error" => SignalKind::Error(chat.error_message.unwrap_or_else(|| "The agent failed.".into())),
            _ => SignalKind::Status,
        };
        Ok(Self { session_key: chat.session_key, run_id: chat.run_id, kind })
    }

    fn parse_tool(payload: &RawValue) -> Result<Option<Self>, serde_json::Error> {
        let agent: AgentPayload<'_> = serde_json::from_str(payload.get())?;
        let (Some(data), "tool") = (agent.data, agent.stream.as_str()) else { return Ok(None) };
        let tool: ToolData = serde_json::from_str(data.get())?;
        let kind = match tool.phase.as_str() {
            "start" => {
                SignalKind::ToolStarted { id: tool.tool_call_id, name: tool.name, arguments: tool.args }
            }
            "result" => SignalKind::ToolCompleted {
                id: tool.tool_call_id,
                name: tool.name,
                output: tool.result.map(|result| text_of(&result.content)).unwrap_or_default(),
                is_error: tool.is_error,
            },
            _ => return Ok(None),
        };
        Ok(Some(Self { session_key: agent.session_key, run_id: agent.run_id, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(event: &str, payload: &str) -> Option<SignalKind> {
        let payload: Box<RawValue> = serde_json::from_str(payload).unwrap();
        let signal = Signal::parse(event, &payload).unwrap()?;
        assert_eq!(signal.session_key, "agent:main:chs_a1");
        Some(signal.kind)
    }

    // Recorded from OpenClaw 2026.9.6, shortened.
    #[test]
    fn recorded_events_are_understood() {
        let delta = r#"{"runId":"turn_1","sessionKey":"agent:main:chs_a1","agentId":"main","seq":13,"state":"delta",
            "deltaText":" there","message":{"role":"assistant","content":[{"type":"text","text":"echo: there"}],"timestamp":1}}"#;
        assert!(matches!(parse("chat", delta), Some(SignalKind::Delta(text)) if text == "echo: there"));
        let status = r#"{"runId":"turn_1","sessionKey":"agent:main:chs_a1","state":"status","phase":"starting_model"}"#;
        assert!(matches!(parse("chat", status), Some(SignalKind::Status)));
        let steered = r#"{"runId":"turn_1","sessionKey":"agent:main:chs_a1","seq":1,"state":"final"}"#;
        assert!(matches!(parse("chat", steered), Some(SignalKind::Final(None))));
        let aborted = r#"{"runId":"turn_1","sessionKey":"agent:main:chs_a1","seq":1,"state":"aborted","stopReason":"rpc"}"#;
        assert!(
            matches!(parse("chat", aborted), Some(SignalKind::Aborted { text: None, reason: Some(by) }) if by == "rpc")
        );
        let error = r#"{"runId":"turn_1","sessionKey":"agent:main:chs_a1","state":"error","errorMessage":"LLM request failed",
            "errorDetail":{"provider":"stub"}}"#;
        assert!(
            matches!(parse("chat", error), Some(SignalKind::Error(text)) if text == "LLM request failed")
        );
        let tool = r#"{"runId":"turn_2","stream":"tool","data":{"phase":"result","name":"exec","toolCallId":"c2","isError":false,
            "result":{"content":[{"type":"text","text":"hi"}],"details":{"exitCode":0}}},"sessionKey":"agent:main:chs_a1"}"#;
        for event in ["agent", "session.tool"] {
            assert!(
                matches!(parse(event, tool), Some(SignalKind::ToolCompleted { output, .. }) if output == "hi")
            );
        }
        let other = r#"{"runId":"turn_2","stream":"assistant","data":{"text":"hi"},"sessionKey":"agent:main:chs_a1"}"#;
        assert!(parse("agent", other).is_none());
        assert!(parse("sessions.changed", other).is_none());
    }

    #[test]
    fn recorded_rows_are_understood() {
        let row = r#"{"sessionKey":"agent:main:chs_a1","message":{"role":"assistant","content":[
            {"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}],"usage":{"input":10770,"output":7,
            "cost":{"total":0}},"stopReason":"toolUse","__openclaw":{"runId":"turn_2","id":"a02a","seq":4}},"messageId":"a02a"}"#;
        let Some(SignalKind::Row(row)) = parse("session.message", row) else { panic!("not a row") };
        assert!(row.is_of_run("turn_2") && !row.is_of_run("turn_1"));
        assert_eq!(row.usage.map(|usage| (usage.input, usage.output)), Some((10770, 7)));
        let history: History = serde_json::from_str(
            r#"{"sessionKey":"k","messages":[{"role":"user","content":"[System] Your previous turn was interrupted by a gateway restart","idempotencyKey":"ee8d:user","__openclaw":{"id":"1"}}],"hasMore":false,
            "sessionInfo":{"hasActiveRun":true,"status":"running"},
            "inFlightRun":{"runId":"ee8d","text":"","startedAt":1,"sessionAbortable":true}}"#,
        )
        .unwrap();
        assert!(history.messages[0].resumes_after_restart());
        assert_eq!(history.messages[0].started_run(), Some("ee8d"));
        let calls = r#"{"role":"assistant","content":[{"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}]}"#;
        let row: Row = serde_json::from_str(calls).unwrap();
        assert_eq!(row.calls().next().map(|call| call.name), Some("exec"));
        assert_eq!(history.in_flight_run.map(|run| run.run_id).as_deref(), Some("ee8d"));
    }
}
