//! Commands and terminals of an instance, as clients and the control plane's documentation see them.
//!
//! On a terminal's WebSocket binary frames are bytes of the PTY, both ways; text frames are JSON: [`TerminalInput`] from
//! the client, [`TerminalOutput`] from the instance. Clients ignore types that they do not know.

use std::collections::BTreeMap;

use reef_model::{TerminalId, Timestamp};

/// How long a command may take unless said, in milliseconds.
pub const EXEC_TIMEOUT_MS: u64 = 60_000;
/// The longest that a command may be given, in milliseconds.
pub const MAX_EXEC_TIMEOUT_MS: u64 = 3_600_000;
/// Bytes that are kept of standard output, and as many of standard error, in an answer that waits for the end.
pub const MAX_EXEC_OUTPUT: usize = 1 << 20;
/// Bytes of a terminal's output that are kept for whoever attaches later.
pub const REPLAY_BYTES: usize = 256 << 10;
/// Terminals that an instance may have open.
pub const MAX_TERMINALS: usize = 64;
/// The most columns or rows of a terminal.
pub const MAX_TERMINAL_SIZE: u16 = 1000;

/// The body of `POST …/terminal/exec`: either `command` or `argv`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// A command line, run by `/bin/bash -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "ls -l | head")]
    pub command: Option<String>,
    /// Program and arguments, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Directory to run in; the workspace unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Put over the instance's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the command reads; nothing unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// After this it is killed with everything that it started; 1 to 3600000, 60000 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ExecResult {
    /// Its exit status, `null` where a signal killed it.
    pub exit_code: Option<i32>,
    /// The signal that killed it, as in signal(7).
    #[schema(example = "SIGKILL")]
    pub signal: Option<String>,
    /// Standard output; bytes that are no UTF-8 become U+FFFD.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Whether there was more output than the MiB that is kept of each.
    pub truncated: bool,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// How long it ran.
    pub duration_ms: u64,
}

/// The data of the events `stdout` and `stderr` of a streamed command.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ExecOutput {
    /// The next piece; never a part of a character.
    pub text: String,
}

/// The data of the event `exit`, the last one of a streamed command.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ExecExit {
    /// Its exit status, `null` where a signal killed it.
    pub exit_code: Option<i32>,
    /// The signal that killed it, as in signal(7).
    pub signal: Option<String>,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// How long it ran.
    pub duration_ms: u64,
}

/// A terminal: a process on a PTY, which outlives the sockets that show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TerminalSession {
    /// Its id, for `?session=`.
    pub id: TerminalId,
    /// What was started in it; `null`: an interactive shell.
    pub command: Option<String>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Sockets that show it.
    pub viewers: u32,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When something was last typed or written.
    pub last_active_at: Timestamp,
    /// How it ended; `null` while it runs. Ended ones are kept for a minute, for those who missed the end.
    pub exit: Option<TerminalExit>,
}

/// How a terminal's process ended: one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TerminalExit {
    /// Exit status.
    pub code: Option<i32>,
    /// The signal that killed it, as in signal(7).
    pub signal: Option<String>,
}

/// A text frame from the client.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TerminalInput {
    /// The size of the client's window; the last one of all viewers counts.
    Resize {
        /// Columns, 1 to 1000.
        cols: u16,
        /// Rows, 1 to 1000.
        rows: u16,
    },
    /// A signal to whatever is in the foreground.
    Signal {
        /// As in signal(7), with or without `SIG`.
        name: String,
    },
}

/// A text frame from the instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TerminalOutput {
    /// The first frame.
    Session {
        /// For `?session=` when the socket is lost.
        id: TerminalId,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
        /// Bytes that the terminal wrote before the first one that follows: who saw more than that skips the rest.
        offset: u64,
        /// How many of the following bytes were written before this socket was there.
        replay: u64,
    },
    /// The size changed.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The process ended; nothing but the close frame follows.
    Exit {
        /// Exit status, `null` where a signal killed it.
        code: Option<i32>,
        /// The signal that killed it, as in signal(7).
        signal: Option<String>,
    },
    /// A text frame that could not be taken; the terminal goes on.
    Error {
        /// What was wrong with it.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_frames_are_as_documented() {
        let resize = TerminalInput::Resize { cols: 80, rows: 24 };
        assert_eq!(serde_json::to_value(&resize).unwrap(), json!({"type": "resize", "cols": 80, "rows": 24}));
        let signal: TerminalInput = serde_json::from_value(json!({"type": "signal", "name": "INT"})).unwrap();
        assert_eq!(signal, TerminalInput::Signal { name: "INT".into() });
        let exit = TerminalOutput::Exit { code: Some(0), signal: None };
        assert_eq!(serde_json::to_value(&exit).unwrap(), json!({"type": "exit", "code": 0, "signal": null}));
    }
}
