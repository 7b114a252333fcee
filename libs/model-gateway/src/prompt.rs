//! What was said in a request, without what OpenClaw wraps around it.
//!
//! OpenClaw 2026.9 puts `[Fri 2026-11-20 11:57 UTC] ` before a user's text and a `Runtime: agent=…` line after the first
//! one, and appends to each request a user message that holds only its internal context block.

use serde::Deserialize;

const CONTEXT_BEGIN: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
const CONTEXT_END: &str = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";

/// A chat completion request, as far as the demo model reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) tools: Vec<Tool>,
    #[serde(default)]
    pub(crate) stream: bool,
    #[serde(default)]
    pub(crate) stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tool {
    #[serde(default)]
    function: Function,
}

#[derive(Debug, Default, Deserialize)]
struct Function {
    #[serde(default)]
    name: String,
}

/// The last thing said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// By the user.
    User(String),
    /// By a tool.
    Tool(String),
    /// Nothing yet.
    Nothing,
}

impl ChatRequest {
    pub(crate) fn offers(&self, tool: &str) -> bool {
        self.tools.iter().any(|offered| offered.function.name == tool)
    }

    /// Returns the last thing that a user or a tool said.
    pub(crate) fn last_said(&self) -> Said {
        self.messages
            .iter()
            .rev()
            .find_map(|message| {
                let text = message.text();
                match message.role.as_str() {
                    "tool" => Some(Said::Tool(text.trim().to_owned())),
                    "user" => {
                        let own = without_context(&text);
                        let is_context_only = own.len() != text.len() && own.trim().is_empty();
                        (!is_context_only).then(|| Said::User(unwrap(&own).trim().to_owned()))
                    }
                    _ => None,
                }
            })
            .unwrap_or(Said::Nothing)
    }
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().map(|part| part.text.as_str()).collect(),
            Some(Content::Other(_)) | None => String::new(),
        }
    }
}

/// Cuts out every internal context block; one that never ends takes the rest with it.
fn without_context(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, block)) = rest.split_once(CONTEXT_BEGIN) {
        kept.push_str(before);
        rest = block.split_once(CONTEXT_END).map_or("", |(_, after)| after.trim_start());
    }
    kept.push_str(rest);
    kept
}

/// Takes off the time before and the runtime line after.
fn unwrap(text: &str) -> &str {
    let text = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(stamp, _)| is_stamp(stamp))
        .map_or(text, |(_, rest)| rest);
    match text.rsplit_once("\n\nRuntime: agent=") {
        Some((before, line)) if !line.trim_end().contains('\n') => before,
        _ => text,
    }
}

/// Tells whether this is `Fri 2026-11-20 11:57 UTC`, whatever the zone.
fn is_stamp(text: &str) -> bool {
    let shape = b"aaa dddd-dd-dd dd:dd ";
    let bytes = text.as_bytes();
    !text.contains('\n')
        && bytes.len() > shape.len()
        && shape.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'a' => byte.is_ascii_alphabetic(),
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn last(messages: serde_json::Value) -> Said {
        serde_json::from_value::<ChatRequest>(json!({ "messages": messages })).unwrap().last_said()
    }

    fn user(text: &str) -> Said {
        Said::User(text.to_owned())
    }

    #[test]
    fn unwraps_what_openclaw_adds() {
        let wrapped = "[Fri 2026-11-20 11:57 UTC] hello [x] there\n\nRuntime: agent=main | host=a\n";
        assert_eq!(last(json!([{ "role": "user", "content": wrapped }])), user("hello [x] there"));
        let parts = json!([{ "type": "text", "text": wrapped }, { "type": "image_url", "image_url": {} }]);
        assert_eq!(last(json!([{ "role": "user", "content": parts }])), user("hello [x] there"));
        for plain in ["[not a stamp] hello", "hello\n\nRuntime: agent=main\nmore", "[", ""] {
            assert_eq!(last(json!([{ "role": "user", "content": plain }])), user(plain));
        }
    }

    #[test]
    fn never_sees_the_internal_context() {
        let context = format!("{CONTEXT_BEGIN}\nsecret\n{CONTEXT_END}\n");
        let messages = json!([
            { "role": "system", "content": "be good" },
            { "role": "user", "content": "first" },
            { "role": "assistant", "content": null },
            { "role": "user", "content": format!("{context}second") },
            { "role": "user", "content": context },
        ]);
        assert_eq!(last(messages), user("second"));
        assert_eq!(
            last(json!([{ "role": "user", "content": format!("{CONTEXT_BEGIN} open") }])),
            Said::Nothing
        );
    }

    #[test]
    fn a_tool_speaks_last_where_it_did() {
        let messages = json!([
            { "role": "user", "content": "/run ls" },
            { "role": "assistant", "content": null, "tool_calls": [] },
            { "role": "tool", "content": "a.txt\n" },
            { "role": "user", "content": format!("{CONTEXT_BEGIN}x{CONTEXT_END}") },
        ]);
        assert_eq!(last(messages), Said::Tool("a.txt".to_owned()));
        assert_eq!(last(json!([])), Said::Nothing);
    }
}
