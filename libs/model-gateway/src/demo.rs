//! The demo model: says that it is one, repeats what was said, and runs one command where asked with `/run CMD`.
//!
//! It lets a new user see a real OpenClaw turn stream end to end, tool call included, with no account anywhere.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    error::ModelError,
    meter::Meter,
    prompt::{ChatRequest, Said},
};

/// Between words, so that streaming can be seen.
const PER_WORD: Duration = Duration::from_millis(20);
const MAX_ECHO_CHARS: usize = 4_000;
const RUN: &str = "/run";
const TOOL: &str = "exec";

/// What the model says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Text(String),
    Call { command: String },
}

/// Answers a chat completion request, streamed where it asks for that.
///
/// # Errors
/// [`ModelError::Invalid`] where the body is no such request.
pub(crate) fn answer(body: &[u8], meter: Meter) -> Result<Response, ModelError> {
    let request: ChatRequest = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            meter.void();
            return Err(ModelError::Invalid(error.to_string()));
        }
    };
    let answer = compose(&request);
    let includes_usage = request.stream_options.unwrap_or_default().include_usage;
    Ok(if request.stream { stream(answer, includes_usage, meter) } else { whole(answer, meter) })
}

fn compose(request: &ChatRequest) -> Answer {
    let text = match request.last_said() {
        Said::Tool(output) if output.is_empty() => "The command ended without output.".to_owned(),
        Said::Tool(output) => format!("The command says:\n\n```\n{}\n```", shorten(&output)),
        Said::User(text) => {
            match text.strip_prefix(RUN).filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
                Some(command) if command.trim().is_empty() => {
                    "Write a command behind it, for example `/run uname -a`.".to_owned()
                }
                Some(command) if request.offers(TOOL) => {
                    return Answer::Call { command: command.trim().to_owned() };
                }
                Some(_) => {
                    format!("This conversation offers no `{TOOL}` tool, so there is nothing to run it with.")
                }
                None => format!(
                    "I am Reef's demo model: no model provider is configured, so I only repeat what you say. \
                 Try `/run uname -a` to see a tool call. You said: {}",
                    shorten(&text)
                ),
            }
        }
        Said::Nothing => "I am Reef's demo model. Say something and I repeat it.".to_owned(),
    };
    Answer::Text(text)
}

fn shorten(text: &str) -> &str {
    text.char_indices().nth(MAX_ECHO_CHARS).map_or(text, |(end, _)| &text[..end])
}

fn arguments(command: &str) -> String {
    json!({ "command": command }).to_string()
}

fn call(command: &str) -> Value {
    json!([{ "index": 0, "id": "call_demo", "type": "function",
             "function": { "name": TOOL, "arguments": arguments(command) } }])
}

fn whole(answer: Answer, mut meter: Meter) -> Response {
    let (message, finish) = match &answer {
        Answer::Text(text) => {
            meter.answered(text.len());
            (json!({ "role": "assistant", "content": text }), "stop")
        }
        Answer::Call { command } => {
            meter.answered(command.len());
            (json!({ "role": "assistant", "content": null, "tool_calls": call(command) }), "tool_calls")
        }
    };
    let body = json!({
        "id": "chatcmpl-demo", "object": "chat.completion", "created": 0, "model": crate::DEFAULT_MODEL,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": usage(&meter),
    });
    count_exactly(&mut meter);
    Json(body).into_response()
}

fn stream(answer: Answer, includes_usage: bool, mut meter: Meter) -> Response {
    let events = async_stream::stream! {
        yield event(&chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }])));
        let finish = match &answer {
            Answer::Text(text) => {
                for word in text.split_inclusive(char::is_whitespace) {
                    tokio::time::sleep(PER_WORD).await;
                    meter.answered(word.len());
                    yield event(&chunk(json!([{ "index": 0, "delta": { "content": word }, "finish_reason": null }])));
                }
                "stop"
            }
            Answer::Call { command } => {
                meter.answered(command.len());
                let delta = json!({ "tool_calls": call(command) });
                yield event(&chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }])));
                "tool_calls"
            }
        };
        yield event(&chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }])));
        if includes_usage {
            let mut last = chunk(json!([]));
            last["usage"] = usage(&meter);
            yield event(&last);
        }
        count_exactly(&mut meter);
        yield Ok(Bytes::from_static(b"data: [DONE]\n\n"));
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

/// The demo model's own count is the true one: it is no estimate of somebody else's.
fn count_exactly(meter: &mut Meter) {
    let count = meter.count();
    meter.counted(count);
    meter.settle();
}

fn usage(meter: &Meter) -> Value {
    let count = meter.count();
    json!({
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "total_tokens": count.prompt_tokens + count.completion_tokens,
    })
}

fn chunk(choices: Value) -> Value {
    json!({ "id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 0,
            "model": crate::DEFAULT_MODEL, "choices": choices })
}

fn event(data: &Value) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(format!("data: {data}\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(text: &str, tools: Value) -> Answer {
        let request = json!({ "messages": [{ "role": "user", "content": text }], "tools": tools });
        compose(&serde_json::from_value(request).unwrap())
    }

    fn exec() -> Value {
        json!([{ "type": "function", "function": { "name": "exec" } }])
    }

    fn text(answer: Answer) -> String {
        match answer {
            Answer::Text(text) => text,
            Answer::Call { command } => panic!("calls {command}"),
        }
    }

    #[test]
    fn says_what_it_is_and_echoes() {
        let said = text(composed("hello there", exec()));
        assert!(said.contains("demo model") && said.ends_with("You said: hello there"), "{said}");
    }

    #[test]
    fn runs_only_what_it_is_told_with_a_tool_that_is_there() {
        assert_eq!(composed("/run echo a  b", exec()), Answer::Call { command: "echo a  b".to_owned() });
        assert!(text(composed("/run ls", json!([]))).contains("no `exec` tool"));
        assert!(text(composed("/run", exec())).contains("for example"));
        assert!(text(composed("/running late", exec())).ends_with("/running late"));
    }

    #[test]
    fn shortens_between_characters() {
        let long = "ä".repeat(MAX_ECHO_CHARS + 1);
        assert_eq!(shorten(&long).chars().count(), MAX_ECHO_CHARS);
    }
}
