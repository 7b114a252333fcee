//! The state machine of one running turn: gateway signals in, log drafts out. Pure.
//!
//! The gateway repeats the whole text with every delta, and may repeat or lose deltas around a reconnection; the log is
//! append only. [`Progress`] therefore compares the whole text with what was logged and lets only the missing end
//! through, so that nothing is shown twice, whatever the socket does.

use std::collections::{BTreeMap, BTreeSet};

use reef_door::chat::{ToolCall, TurnError, TurnStatus, Usage};
use reef_openclaw::protocol::{Row, RowUsage, SignalKind};
use serde_json::Value;

use super::log::{Draft, End};

/// Where the gateway cuts the text of its events (UTF-16 units); longer answers are fetched from the transcript.
const CUT_TEXT_UNITS: usize = 500_000;
/// Bytes of one answer: far more than the gateway lets through, so that only a broken or hostile one comes near it.
pub(super) const REPLY_BYTES: usize = 4 << 20;
/// What is kept of a tool's arguments and of its output.
const TOOL_BYTES: usize = 64 * 1024;
/// What is kept of all tools' arguments and outputs and of others' messages in one turn; names are kept beyond it.
const EXTRA_BYTES: usize = 4 << 20;
/// Tool calls, others' messages and transcript rows of one turn that are kept, each.
const EXTRAS: usize = 2000;
/// Bytes of an id or a name that the gateway made.
const NAME_BYTES: usize = 256;
/// Bytes of what an error says.
const ERROR_BYTES: usize = 4096;
/// Places where a resumed run's text may begin; the rest is not looked at.
const BEGINNINGS: usize = 1000;
/// The error of a message that was taken into another run.
const STEERED: &str = "steered";
/// What the gateway puts between the texts before and after a tool call.
const BETWEEN: &str = "\n\n";

/// What to do after a signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Wait for the next one.
    Go,
    /// The turn has ended so.
    End(Box<End>),
    /// It has ended, or so it seems; the transcript knows how.
    Consult,
}

/// What is known of a running turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    run_id: String,
    /// All text logged so far.
    text: String,
    /// Where in `text` the present run's text begins.
    base: usize,
    /// Another run answers than the one that wrote the end of `text`.
    is_resumed: bool,
    tools: Vec<ToolCall>,
    /// Tokens by transcript row, so that a row read twice counts once.
    usage: BTreeMap<String, RowUsage>,
    /// Rows of others that were taken into the turn.
    heard: BTreeSet<String>,
    /// Bytes of `tools` and `heard`.
    extra_bytes: usize,
    /// The answer is larger than an answer may be; what came after that is not kept.
    is_over: bool,
}

impl Progress {
    /// Continues from what the log has of the turn.
    pub(super) fn resume(run_id: String, text: String, tools: Vec<ToolCall>) -> Self {
        let sizes = tools
            .iter()
            .map(|tool| tool.arguments.to_string().len() + tool.output.as_ref().map_or(0, String::len));
        let extra_bytes = sizes.sum();
        Self { run_id, is_resumed: !text.is_empty(), text, tools, extra_bytes, ..Self::default() }
    }

    /// Tells whether the answer has grown beyond what an answer may be; the turn then ends as failed.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns the gateway's run that is listened to.
    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Listens to another run, with which the gateway goes on after a restart.
    pub(super) fn switch_run(&mut self, run_id: &str) {
        if self.run_id != run_id {
            run_id.clone_into(&mut self.run_id);
            self.is_resumed = true;
        }
    }

    /// Takes what the gateway says of this run.
    pub(super) fn apply(&mut self, signal: SignalKind, drafts: &mut Vec<Draft>) -> Next {
        match signal {
            SignalKind::Status => Next::Go,
            SignalKind::Delta(text) => {
                self.advance(&text, drafts);
                Next::Go
            }
            SignalKind::ToolStarted { id, name, arguments } => {
                self.tool_started(&id, &name, &arguments, drafts);
                Next::Go
            }
            SignalKind::ToolCompleted { id, name, output, is_error } => {
                self.tool_completed(&id, &name, output, is_error, drafts);
                Next::Go
            }
            SignalKind::Row(row) => {
                self.count(&row);
                Next::Go
            }
            SignalKind::Final(Some(text)) => {
                if text.len() >= CUT_TEXT_UNITS && text.encode_utf16().count() >= CUT_TEXT_UNITS {
                    self.advance(&text, drafts);
                    return Next::Consult;
                }
                let content = self.settle(&text, drafts);
                Next::End(Box::new(self.end_with(content, TurnStatus::Completed, None)))
            }
            SignalKind::Final(None) if self.text.len() > self.base => Next::Consult,
            SignalKind::Final(None) => Next::End(Box::new(self.end(
                TurnStatus::Failed,
                Some(error_of(
                    STEERED,
                    "The agent took this message into another running turn, where the answer is.",
                )),
            ))),
            SignalKind::Aborted { text, reason } => {
                if let Some(text) = text {
                    self.advance(&text, drafts);
                }
                let (status, error) = match reason.as_deref() {
                    Some("rpc" | "user" | "aborted") | None => (TurnStatus::Cancelled, None),
                    Some("timeout") => (
                        TurnStatus::Failed,
                        Some(error_of("timeout", "The agent took longer than the gateway allows.")),
                    ),
                    Some(_) => (
                        TurnStatus::Interrupted,
                        Some(error_of(
                            "gateway_lost",
                            "The gateway stopped the turn. Send the message again.",
                        )),
                    ),
                };
                Next::End(Box::new(self.end(status, error)))
            }
            SignalKind::Error(message) => {
                Next::End(Box::new(self.end(TurnStatus::Failed, Some(error_of("model_error", &message)))))
            }
        }
    }

    /// Takes somebody else's message that was steered into the turn.
    pub(super) fn heard(&mut self, row_id: &str, mut text: String, drafts: &mut Vec<Draft>) {
        if self.heard.len() < EXTRAS && self.heard.insert(cut(row_id).to_owned()) {
            text.truncate(text.floor_char_boundary(self.extra_room()));
            self.extra_bytes += text.len();
            drafts.push(Draft::Heard(text));
        }
    }

    /// Takes the whole text of the present run and logs what is missing of it.
    pub(super) fn advance(&mut self, whole: &str, drafts: &mut Vec<Draft>) {
        if self.is_resumed {
            let at = self.beginnings().find(|at| whole.starts_with(&self.text[*at..]));
            self.base = at.unwrap_or(self.base);
        }
        let logged = &self.text[self.base..];
        if let Some(rest) = whole.strip_prefix(logged) {
            if !rest.is_empty() {
                self.is_resumed = false;
                self.say(rest.to_owned(), drafts);
            }
        } else if self.is_resumed && !logged.starts_with(whole) {
            // The run that took over answers anew, in other words: what was said stands, the new answer follows.
            self.is_resumed = false;
            let gap = if self.text.is_empty() { "" } else { BETWEEN };
            self.base = self.text.len() + gap.len();
            self.say(format!("{gap}{whole}"), drafts);
        }
        // Else the run replaced what it had said; the answer's own text will tell.
    }

    /// Takes rows of the transcript: tools that were missed, and tokens.
    pub(super) fn catch_up<'a>(&mut self, rows: impl Iterator<Item = &'a Row>, drafts: &mut Vec<Draft>) {
        for row in rows {
            self.count(row);
            for call in row.calls() {
                self.tool_started(call.id, call.name, call.arguments, drafts);
            }
            if let Some(id) = row.tool_call_id.as_deref().filter(|_| row.role == "toolResult") {
                let id = id.to_owned();
                self.tool_completed(&id, "", row.text(), row.is_error, drafts);
            }
        }
    }

    /// Ends with an answer that comes from the transcript, which leaves out what was said before tool calls.
    pub(super) fn answer_from_transcript(&mut self, answer: &str, drafts: &mut Vec<Draft>) {
        let answer = answer.trim_end();
        let missing = self
            .beginnings()
            .map(|at| &self.text[at..])
            .find_map(|part| answer.strip_prefix(part).or_else(|| (part.trim_end() == answer).then_some("")));
        match missing {
            Some("") => {}
            Some(rest) => {
                let rest = rest.to_owned();
                self.say(rest, drafts);
            }
            None if answer.is_empty() => {}
            None => {
                let gap = if self.text.is_empty() { "" } else { BETWEEN };
                self.say(format!("{gap}{answer}"), drafts);
            }
        }
    }

    /// Returns where the text of a run, or of a part of one, may begin in what was logged.
    fn beginnings(&self) -> impl Iterator<Item = usize> {
        let parts =
            self.text[self.base..].match_indices(BETWEEN).map(|(at, _)| self.base + at + BETWEEN.len());
        std::iter::once(self.base).chain(parts.filter(|at| *at < self.text.len())).take(BEGINNINGS)
    }

    /// Returns the end of the turn with all that was said.
    pub(super) fn end(&self, status: TurnStatus, error: Option<TurnError>) -> End {
        self.end_with(self.text.clone(), status, error)
    }

    fn end_with(&self, content: String, status: TurnStatus, error: Option<TurnError>) -> End {
        let usage = (!self.usage.is_empty()).then(|| {
            self.usage.values().fold(Usage::default(), |sum, row| Usage {
                input_tokens: sum.input_tokens.saturating_add(row.input),
                output_tokens: sum.output_tokens.saturating_add(row.output),
            })
        });
        let (content, status, error) = if self.is_over {
            let message =
                "The answer grew larger than an answer may be (4 MiB). Ask for a file in the workspace.";
            (self.text.clone(), TurnStatus::Failed, Some(error_of("reply_too_large", message)))
        } else {
            (content, status, error)
        };
        End { status, content, tools: self.tools.clone(), usage, error }
    }

    fn extra_room(&self) -> usize {
        EXTRA_BYTES.saturating_sub(self.extra_bytes)
    }

    /// Logs what is missing of the run's last word and returns the whole answer.
    fn settle(&mut self, whole: &str, drafts: &mut Vec<Draft>) -> String {
        self.advance(whole, drafts);
        format!("{}{whole}", &self.text[..self.base])
    }

    fn say(&mut self, mut text: String, drafts: &mut Vec<Draft>) {
        let room = REPLY_BYTES.saturating_sub(self.text.len());
        if text.len() > room {
            self.is_over = true;
            text.truncate(text.floor_char_boundary(room));
        }
        if text.is_empty() {
            return;
        }
        self.text.push_str(&text);
        match drafts.last_mut() {
            Some(Draft::Delta(last)) => last.push_str(&text),
            _ => drafts.push(Draft::Delta(text)),
        }
    }

    fn count(&mut self, row: &Row) {
        if let Some(usage) =
            row.usage.filter(|usage| row.role == "assistant" && (usage.input, usage.output) != (0, 0))
            && self.usage.len() < EXTRAS
        {
            self.usage.insert(cut(&row.meta.id).to_owned(), usage);
        }
    }

    fn tool_started(&mut self, id: &str, name: &str, arguments: &Value, drafts: &mut Vec<Draft>) {
        let id = cut(id);
        if self.tools.len() == EXTRAS || self.tools.iter().any(|tool| tool.id == id) {
            return;
        }
        let json = serde_json::to_string(arguments).unwrap_or_default();
        let fits = json.len() <= TOOL_BYTES.min(self.extra_room());
        self.extra_bytes += if fits { json.len() } else { 0 };
        let tool = ToolCall {
            id: id.to_owned(),
            name: cut(name).to_owned(),
            arguments: if fits { arguments.clone() } else { Value::Null },
            output: None,
            is_error: None,
        };
        self.tools.push(tool.clone());
        drafts.push(Draft::ToolStarted(tool));
    }

    fn tool_completed(
        &mut self,
        id: &str,
        name: &str,
        mut output: String,
        is_error: bool,
        drafts: &mut Vec<Draft>,
    ) {
        self.tool_started(id, name, &Value::Null, drafts);
        output.truncate(output.floor_char_boundary(TOOL_BYTES.min(self.extra_room())));
        let id = cut(id);
        let tool = self.tools.iter_mut().find(|tool| tool.id == id && tool.is_error.is_none());
        if let Some(tool) = tool {
            self.extra_bytes += output.len();
            tool.output = Some(output);
            tool.is_error = Some(is_error);
            drafts.push(Draft::ToolCompleted(tool.clone()));
        }
    }
}

impl End {
    /// Tells whether the gateway ended the run without a word.
    pub(super) fn is_steered(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.code == STEERED)
    }
}

/// Returns a name as it is kept.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

/// Returns an error with its word and what a person should know.
pub(super) fn error_of(code: &str, message: &str) -> TurnError {
    TurnError {
        code: code.to_owned(),
        message: message[..message.floor_char_boundary(ERROR_BYTES)].to_owned(),
    }
}

#[cfg(test)]
mod tests;
