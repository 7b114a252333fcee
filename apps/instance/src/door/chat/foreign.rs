//! Runs that did not begin at the chat routes: channels, schedules, the OpenAI-compatible routes, the agent itself.
//!
//! The gateway tells every connection of every run. One that the log does not know becomes a turn like any other, in
//! the session that the gateway has it in; its message is the user's row that came with it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use reef_door::chat::Origin;
use reef_openclaw::protocol::{Row, Signal, SignalKind};

use super::{
    Chat, WARM_UP_SESSION,
    log::{AcceptError, NewForeign, Place},
    session_of_key,
};

/// Rows and runs that are remembered.
const REMEMBERED: usize = 256;
/// Bytes of a message that is remembered.
const TEXT_BYTES: usize = 64 * 1024;
/// Bytes of a session's name in the gateway; longer ones are not taken.
const KEY_BYTES: usize = 512;
/// Characters of a title.
const TITLE_CHARS: usize = 200;

/// What was heard of sessions where nothing runs, as far as the log knows.
#[derive(Default)]
pub(super) struct Foreign(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    /// Users' rows that name no run: session, row, text. The session's next run takes them.
    rows: VecDeque<(String, String, String)>,
    /// Runs that are over, or that are not taken.
    runs: VecDeque<String>,
}

impl Foreign {
    /// Remembers a user's row for the run that it begins.
    pub(super) fn remember(&self, key: &str, row: &Row) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.rows.iter().any(|(_, id, _)| *id == row.meta.id) {
            return;
        }
        if heard.rows.len() == REMEMBERED {
            heard.rows.pop_front();
        }
        let mut text = row.text();
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        heard.rows.push_back((key.to_owned(), row.meta.id.clone(), text));
    }

    fn take_row(&self, key: &str) -> Option<String> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = heard.rows.iter().rposition(|(of, ..)| of == key)?;
        let (_, _, text) = heard.rows.remove(at)?;
        heard.rows.retain(|(of, ..)| of != key);
        Some(text)
    }

    fn knows(&self, run: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs.iter().any(|known| known == run)
    }

    fn know(&self, run: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.runs.len() == REMEMBERED {
            heard.runs.pop_front();
        }
        heard.runs.push_back(run.to_owned());
    }
}

/// Takes a signal of a session that no worker is busy with.
pub(super) async fn hear(chat: &Arc<Chat>, signal: Signal) {
    let key = session_name(&signal.session_key);
    if key == WARM_UP_SESSION || key.is_empty() || key.len() > KEY_BYTES {
        return;
    }
    match &signal.kind {
        // What is said when a restart made the gateway go on with a run is nobody's message.
        SignalKind::Row(row) if row.role == "user" && !row.resumes_after_restart() => {
            return chat.foreign.remember(key, row);
        }
        SignalKind::Row(_) => return,
        // A message that was taken into another run has no run of its own.
        SignalKind::Final(None) => return,
        _ if signal.run_id.is_empty() || chat.foreign.knows(&signal.run_id) => return,
        _ => {}
    }
    match chat.log.knows_run(&signal.run_id).await {
        Ok(false) => {}
        Ok(true) => return chat.foreign.know(&signal.run_id),
        Err(error) => return tracing::error!(%error, "cannot look a run up"),
    }
    let (origin, title) = origin_of(key);
    let place = match session_of_key(key) {
        Some(session) => Place::Ours(session),
        None => Place::Theirs { key: key.to_owned(), title },
    };
    let message = chat.foreign.take_row(key);
    let new = NewForeign { place, origin, run_id: signal.run_id.clone(), message };
    match chat.log.accept_foreign(new).await {
        Ok(turn) => chat.wake(turn.session_id, turn.key).inbox.push(signal),
        Err(error) => {
            if !matches!(error, AcceptError::NoSession) {
                tracing::warn!(%error, origin = origin.as_str(), "a run that began elsewhere is not logged");
            }
            chat.foreign.know(&signal.run_id);
        }
    }
}

/// Returns the session that a run is shown in: all runs of a scheduled job are in one.
pub(super) fn session_name(key: &str) -> &str {
    match key.split_once(":run:") {
        Some((job, _)) if origin_of(job).0 == Origin::Schedule => job,
        _ => key,
    }
}

/// Reads from the gateway's name of a session whose conversation it is, and what to call it.
pub(super) fn origin_of(key: &str) -> (Origin, String) {
    let (agent, rest) = match key.strip_prefix("agent:").and_then(|named| named.split_once(':')) {
        Some((agent, rest)) => (agent, rest),
        None => ("main", key),
    };
    let (first, more) = rest.split_once(':').unwrap_or((rest, ""));
    let is_conversation =
        |part: &str| matches!(part, "direct" | "dm" | "group" | "channel" | "room" | "slash" | "thread");
    let (origin, title) = match first {
        "main" => (Origin::Gateway, "Main session".to_owned()),
        "openai" | "openresponses" => (Origin::Api, "API".to_owned()),
        "openai-user" | "openresponses-user" => (Origin::Api, format!("API: {more}")),
        "cron" => (Origin::Schedule, format!("Schedule {more}")),
        "hook" => (Origin::Schedule, "Webhook".to_owned()),
        "subagent" | "acp" => (Origin::Agent, "Sub-agent".to_owned()),
        _ if more.split(':').any(is_conversation) => {
            (Origin::Channel, format!("{first}: {}", more.replace(':', " ")))
        }
        _ => (Origin::Gateway, rest.to_owned()),
    };
    let title = if agent == "main" { title } else { format!("{title} (agent {agent})") };
    (origin, title.chars().take(TITLE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_where_a_conversation_is() {
        for (key, origin, title) in [
            ("agent:main:main", Origin::Gateway, "Main session"),
            ("agent:work:main", Origin::Gateway, "Main session (agent work)"),
            ("agent:main:openai:0b1c", Origin::Api, "API"),
            ("agent:main:openai-user:conv:1", Origin::Api, "API: conv:1"),
            ("agent:main:telegram:group:-100:thread:7", Origin::Channel, "telegram: group -100 thread 7"),
            ("agent:main:telegram:work:direct:12", Origin::Channel, "telegram: work direct 12"),
            ("agent:main:slack:slash:u1", Origin::Channel, "slack: slash u1"),
            ("agent:main:cron:j1", Origin::Schedule, "Schedule j1"),
            ("cron:j1", Origin::Schedule, "Schedule j1"),
            ("hook:0b1c", Origin::Schedule, "Webhook"),
            ("agent:main:subagent:0b1c", Origin::Agent, "Sub-agent"),
            ("agent:main:my-own", Origin::Gateway, "my-own"),
            ("global", Origin::Gateway, "global"),
        ] {
            assert_eq!(origin_of(key), (origin, title.to_owned()), "{key}");
        }
        assert_eq!(session_name("agent:main:cron:j1:run:0b1c"), "agent:main:cron:j1");
        assert_eq!(session_name("agent:main:telegram:group:1:run:2"), "agent:main:telegram:group:1:run:2");
    }
}
