//! What is started, checked before hands sees it, and what it means when hands cannot.

use std::collections::BTreeMap;

use reef_door::{
    ErrorCode,
    terminal::{ExecRequest, MAX_TERMINAL_SIZE},
};
use serde_json::json;

use super::super::{
    problem::Problem,
    work::{MAX_CALL, WorkError},
};
use crate::wire::work::{FailureKind, Size, Spawn};

/// Not as a login shell: the machine's `/etc/profile` would put another `PATH` over the instance's.
const SHELL: &str = "/bin/bash";

/// Returns what `POST /terminal/exec` starts.
pub(super) fn of_request(request: &ExecRequest) -> Result<Spawn, Problem> {
    let argv = match (&request.command, &request.argv) {
        (Some(command), None) => command_line(command)?,
        (None, Some(argv)) => argv.clone(),
        _ => return Err(Problem::field("command", "give either command or argv")),
    };
    if argv.first().is_none_or(String::is_empty) {
        return Err(Problem::field("argv", "must begin with the program to run"));
    }
    let spawn = Spawn { argv, cwd: request.cwd.clone(), env: request.env.clone(), terminal: None };
    check(&spawn)?;
    Ok(spawn)
}

/// Returns what a terminal starts: a command, or an interactive shell.
pub(super) fn of_terminal(command: Option<&str>, size: Size) -> Result<Spawn, Problem> {
    let argv = match command {
        Some(command) => command_line(command)?,
        None => vec![SHELL.to_owned()],
    };
    let env = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];
    let env = BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let spawn = Spawn { argv, cwd: None, env, terminal: Some(size) };
    check(&spawn)?;
    Ok(spawn)
}

/// Returns the size if a terminal can have it.
pub(super) fn size(cols: u16, rows: u16) -> Option<Size> {
    let fits = |number| (1..=MAX_TERMINAL_SIZE).contains(&number);
    (fits(cols) && fits(rows)).then_some(Size { cols, rows })
}

fn command_line(command: &str) -> Result<Vec<String>, Problem> {
    if command.trim().is_empty() {
        return Err(Problem::field("command", "must not be empty"));
    }
    Ok([SHELL, "-c", command].map(str::to_owned).to_vec())
}

fn check(spawn: &Spawn) -> Result<(), Problem> {
    let has_nul = |text: &String| text.contains('\0');
    let nul_fields = [
        ("argv", spawn.argv.iter().any(has_nul)),
        ("cwd", spawn.cwd.iter().any(has_nul)),
        ("env", spawn.env.iter().any(|(name, value)| has_nul(name) || has_nul(value))),
    ];
    if let Some((field, _)) = nul_fields.iter().find(|(_, is_bad)| *is_bad) {
        return Err(Problem::field(field, "must not contain NUL characters"));
    }
    if spawn.env.keys().any(|name| name.is_empty() || name.contains('=')) {
        return Err(Problem::field("env", "names must not be empty or contain ="));
    }
    let bytes = serde_json::to_vec(spawn).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_CALL {
        return Err(Problem::field(
            "argv",
            &format!(
                "command, arguments and environment are {bytes} bytes and may be {MAX_CALL}: pass long input in stdin \
                 or in a file"
            ),
        ));
    }
    Ok(())
}

/// Says what a failed start means to the caller.
pub(super) fn problem(error: WorkError) -> Problem {
    match error {
        WorkError::Failed(failure) => match failure.kind {
            FailureKind::NotFound | FailureKind::NotADirectory | FailureKind::Denied => {
                Problem::field("cwd", &failure.message)
            }
            FailureKind::Invalid => Problem::field("argv", &failure.message),
            FailureKind::Limit => Problem::new(ErrorCode::Capacity, format!("{}.", failure.message))
                .with(json!({ "reason": "too_many_processes" })),
            _ => Problem::new(
                ErrorCode::UpstreamError,
                format!("The instance could not start it: {}.", failure.message),
            ),
        },
        other => other.into(),
    }
}
