//! What a transcript says of a turn: decided after a reconnection, from `chat.history` alone. Pure.

use reef_door::chat::{TurnError, TurnStatus};
use reef_model::TurnId;
use reef_openclaw::protocol::{History, Row};

use super::progress::error_of;

/// What became of a turn while nobody looked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// The gateway has never heard of it.
    NeverArrived,
    /// It streams, under this run, and has said so much.
    Streams {
        /// The run.
        run_id: String,
        /// Its whole text so far.
        text: String,
    },
    /// It is prepared, or about to be resumed.
    Pending,
    /// Nothing runs and there is no answer.
    Lost,
    /// It has ended; the rows are those of its last run.
    Ended {
        /// How.
        status: TurnStatus,
        /// Why it did not complete.
        error: Option<TurnError>,
        /// The run.
        run_id: String,
    },
}

/// Returns the rows after the turn's own user row, or those from its run's first one, if there are any.
pub(super) fn rows_of_turn<'h>(history: &'h History, run_id: &str, turn: TurnId) -> Option<&'h [Row]> {
    let name = turn.to_string();
    let is_own = |row: &Row| row.started_run().is_some_and(|run| run == name || run == run_id);
    let Some(at) = history.messages.iter().rposition(is_own) else {
        // A run that began elsewhere may have no row of a user that names it.
        let first = history.messages.iter().position(|row| row.is_of_run(run_id))?;
        return Some(&history.messages[first..]);
    };
    // A run that took over has a later user row of its own: begin at the turn's first.
    let first = history.messages.iter().position(|row| row.started_run() == Some(&name)).unwrap_or(at);
    Some(&history.messages[first.min(at) + 1..])
}

/// Returns the message that began a run, where the transcript shows it.
pub(super) fn message_of_run<'h>(history: &'h History, run_id: &str) -> Option<&'h Row> {
    let rows = &history.messages;
    if let Some(row) = rows.iter().rev().find(|row| row.started_run() == Some(run_id)) {
        return Some(row);
    }
    let is_in_flight = history.in_flight_run.as_ref().is_some_and(|run| run.run_id == run_id);
    let end = rows.iter().position(|row| row.is_of_run(run_id)).or(is_in_flight.then_some(rows.len()))?;
    rows[..end].last().filter(|row| row.role == "user" && !row.resumes_after_restart())
}

/// Decides what became of a turn.
pub(super) fn judge(history: &History, run_id: &str, turn: TurnId) -> Verdict {
    let in_flight = history.in_flight_run.as_ref();
    let Some(rows) = rows_of_turn(history, run_id, turn) else {
        return match in_flight {
            Some(run) if run.run_id == run_id => {
                Verdict::Streams { run_id: run.run_id.clone(), text: run.text.clone() }
            }
            _ => Verdict::NeverArrived,
        };
    };
    // After a restart the gateway resumes the turn under a run of its own making; the last one counts.
    let resumed = rows.iter().rev().find(|row| row.resumes_after_restart()).and_then(Row::started_run);
    let current = resumed.unwrap_or(run_id);
    if let Some(run) = in_flight.filter(|run| run.run_id == current || run.run_id == run_id) {
        return Verdict::Streams { run_id: run.run_id.clone(), text: run.text.clone() };
    }
    let is_active = history.session_info.as_ref().is_some_and(|info| info.has_active_run);
    let last = rows.iter().rev().find(|row| row.role == "assistant" && row.is_of_run(current));
    let stop = last.and_then(|row| row.stop_reason.as_deref());
    let ended = |status, error| Verdict::Ended { status, error, run_id: current.to_owned() };
    match (last, stop) {
        (Some(row), _) if row.openclaw_abort.is_some() => ended(TurnStatus::Cancelled, None),
        _ if is_active => Verdict::Pending,
        (Some(row), Some("error")) => ended(TurnStatus::Failed, Some(error_of("model_error", &row.text()))),
        (None, _) | (Some(_), Some("toolUse")) => match rows.iter().find(|row| row.role == "custom") {
            Some(row) => ended(TurnStatus::Interrupted, Some(error_of("gateway_lost", &row.text()))),
            None => Verdict::Lost,
        },
        (Some(_), _) => ended(TurnStatus::Completed, None),
    }
}

#[cfg(test)]
mod tests;
