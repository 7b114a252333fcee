//! Everything that is read from the log.

use futures_util::TryStreamExt;
use reef_door::chat::{
    ChatMessage, ChatSession, EventBody, MessageDelta, ToolEvent, Turn, TurnError, TurnStatus, Usage,
};
use reef_model::{ChatSessionId, MessageId, Timestamp, TurnId};

use super::{super::session_key, Entry, Log, LogError, OpenTurn, StoredRequest, origin_of, signed, unsigned};

/// Which messages of a session.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Window {
    /// Only those with a greater event id.
    pub(in super::super) after: u64,
    /// Only those with a smaller event id.
    pub(in super::super) before: u64,
    /// The newest ones of them, else the oldest ones.
    pub(in super::super) is_tail: bool,
    /// How many.
    pub(in super::super) limit: u32,
}

/// Bytes after which a page ends, however few rows it has.
const PAGE_BYTES: usize = 4 << 20;

/// Rows that were asked for.
#[derive(Debug)]
pub(in super::super) struct Page<T> {
    pub(in super::super) rows: Vec<T>,
    /// There may be more.
    pub(in super::super) is_cut: bool,
}

type EntryRow = (i64, TurnId, String, bool, bool, String);
type SessionRow = (ChatSessionId, String, Timestamp, Timestamp, i64, i64, Option<String>);

fn session_of(row: SessionRow) -> Result<ChatSession, LogError> {
    let (id, title, created_at, updated_at, messages, last, origin) = row;
    Ok(ChatSession {
        id,
        title,
        created_at,
        updated_at,
        message_count: unsigned(messages),
        last_event_id: unsigned(last),
        origin: origin_of(origin)?,
    })
}

impl Log {
    /// Lists sessions, newest first, after the one at `cursor`.
    pub(in super::super) async fn list_sessions(
        &self,
        cursor: Option<ChatSessionId>,
        limit: u32,
    ) -> Result<Vec<ChatSession>, LogError> {
        // Ids sort by creation, so that a page stays what it was when sessions change.
        let rows: Vec<SessionRow> = sqlx::query_as(
            "SELECT id, title, created_at, updated_at, message_count, last_event_id, origin FROM sessions
             WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(cursor)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(session_of).collect()
    }

    /// Looks a session up.
    pub(in super::super) async fn session(&self, id: ChatSessionId) -> Result<Option<ChatSession>, LogError> {
        let row: Option<SessionRow> = sqlx::query_as(
            "SELECT id, title, created_at, updated_at, message_count, last_event_id, origin FROM sessions WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        row.map(session_of).transpose()
    }

    /// Returns the session of the chat routes that was used last.
    pub(in super::super) async fn newest_session(&self) -> Result<Option<ChatSessionId>, LogError> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM sessions WHERE origin IS NULL ORDER BY updated_at DESC, id DESC LIMIT 1",
        )
        .fetch_optional(&self.reader)
        .await?)
    }

    /// Returns sessions that the gateway has still to forget, with its names of them.
    pub(in super::super) async fn forgotten(&self) -> Result<Vec<(ChatSessionId, String)>, LogError> {
        let rows: Vec<(ChatSessionId, Option<String>)> =
            sqlx::query_as("SELECT session_id, gateway_key FROM forgotten").fetch_all(&self.reader).await?;
        Ok(rows.into_iter().map(|(id, key)| (id, key.unwrap_or_else(|| session_key(id)))).collect())
    }

    /// Returns events of a session after an id, in order; fewer than `limit` where they are large.
    pub(in super::super) async fn events_after(
        &self,
        session: ChatSessionId,
        after: u64,
        with_deltas: bool,
        limit: u32,
    ) -> Result<Page<Entry>, LogError> {
        let sql = if with_deltas {
            "SELECT id, turn_id, name, is_kept, is_terminal, data FROM events
             WHERE session_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        } else {
            "SELECT id, turn_id, name, is_kept, is_terminal, data FROM events
             WHERE session_id = $1 AND id > $2 AND is_kept = 1 ORDER BY id LIMIT $3"
        };
        let mut rows = sqlx::query_as(sql).bind(session).bind(signed(after)).bind(limit).fetch(&self.reader);
        let (mut page, mut bytes) = (Page { rows: Vec::new(), is_cut: false }, 0);
        while let Some(row) = rows.try_next().await? {
            let (id, turn_id, name, is_kept, is_terminal, data): EntryRow = row;
            bytes += data.len();
            page.rows.push(Entry { id: unsigned(id), turn_id, name, is_kept, is_terminal, data });
            if bytes > PAGE_BYTES {
                page.is_cut = true;
                break;
            }
        }
        page.is_cut |= page.rows.len() == limit as usize;
        Ok(page)
    }

    /// Returns messages of a session, oldest first; fewer than the window's limit where they are large.
    pub(in super::super) async fn messages(
        &self,
        session: ChatSessionId,
        window: Window,
    ) -> Result<Page<ChatMessage>, LogError> {
        let sql = if window.is_tail {
            "SELECT name, data FROM events WHERE session_id = $1 AND is_kept = 1 AND message_id IS NOT NULL
             AND id > $2 AND id < $3 ORDER BY id DESC LIMIT $4"
        } else {
            "SELECT name, data FROM events WHERE session_id = $1 AND is_kept = 1 AND message_id IS NOT NULL
             AND id > $2 AND id < $3 ORDER BY id LIMIT $4"
        };
        let mut rows = sqlx::query_as(sql)
            .bind(session)
            .bind(signed(window.after))
            .bind(signed(window.before))
            .bind(window.limit)
            .fetch(&self.reader);
        let (mut page, mut bytes) = (Page { rows: Vec::new(), is_cut: false }, 0);
        while let Some(row) = rows.try_next().await? {
            let (name, data): (String, String) = row;
            bytes += data.len();
            if let Some(EventBody::MessageCreated(event) | EventBody::MessageCompleted(event)) =
                EventBody::parse(&name, &data)?
            {
                page.rows.push(event.message);
            }
            if bytes > PAGE_BYTES {
                page.is_cut = true;
                break;
            }
        }
        page.is_cut |= page.rows.len() == window.limit as usize;
        if window.is_tail {
            page.rows.reverse();
        }
        Ok(page)
    }

    /// Returns the event that made a message.
    pub(in super::super) async fn event_of_message(&self, id: MessageId) -> Result<Option<u64>, LogError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT id FROM events WHERE message_id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        Ok(found.map(unsigned))
    }

    /// Returns a turn as its owner sees it.
    pub(in super::super) async fn turn(&self, id: TurnId) -> Result<Option<Turn>, LogError> {
        type Row = (ChatSessionId, String, Option<String>, Option<String>, i64, Option<String>);
        let row: Option<Row> = sqlx::query_as(
            "SELECT session_id, status, usage, error, last_event_id, origin FROM turns WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        let Some((session_id, status, usage, error, event_id, origin)) = row else { return Ok(None) };
        let status: TurnStatus = serde_json::from_value(status.into())?;
        let usage: Option<Usage> = usage.as_deref().map(serde_json::from_str).transpose()?;
        let error: Option<TurnError> = error.as_deref().map(serde_json::from_str).transpose()?;
        let message = self.answer(id).await?;
        let reply = match &message {
            Some(message) => message.content.clone(),
            None => self.said_so_far(id).await?.0,
        };
        Ok(Some(Turn {
            turn_id: id,
            session_id,
            status,
            reply,
            message,
            usage,
            error,
            event_id: unsigned(event_id),
            origin: origin_of(origin)?,
        }))
    }

    async fn answer(&self, id: TurnId) -> Result<Option<ChatMessage>, LogError> {
        let data: Option<String> =
            sqlx::query_scalar("SELECT data FROM events WHERE turn_id = $1 AND name = 'message.completed'")
                .bind(id)
                .fetch_optional(&self.reader)
                .await?;
        let Some(data) = data else { return Ok(None) };
        Ok(match EventBody::parse("message.completed", &data)? {
            Some(EventBody::MessageCompleted(event)) => Some(event.message),
            _ => None,
        })
    }

    /// Returns the text and the tool events that a turn has logged.
    pub(in super::super) async fn said_so_far(
        &self,
        id: TurnId,
    ) -> Result<(String, Vec<reef_door::chat::ToolCall>), LogError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT name, data FROM events WHERE turn_id = $1
             AND name IN ('message.delta', 'tool.started', 'tool.completed') ORDER BY id",
        )
        .bind(id)
        .fetch_all(&self.reader)
        .await?;
        let (mut text, mut tools) = (String::new(), Vec::<reef_door::chat::ToolCall>::new());
        for (name, data) in rows {
            if name == "message.delta" {
                text.push_str(&serde_json::from_str::<MessageDelta>(&data)?.text);
                continue;
            }
            let tool = serde_json::from_str::<ToolEvent>(&data)?.tool;
            match tools.iter_mut().find(|known| known.id == tool.id) {
                Some(known) => *known = tool,
                None => tools.push(tool),
            }
        }
        Ok((text, tools))
    }

    /// Tells whether somebody's message is logged for a turn.
    pub(in super::super) async fn has_message(&self, id: TurnId) -> Result<bool, LogError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM events WHERE turn_id = $1 AND name = 'message.created' LIMIT 1",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        Ok(found.is_some())
    }

    /// Returns the turn that a session has to run next: the running one, else the one that waits longest.
    pub(in super::super) async fn next_turn(
        &self,
        session: ChatSessionId,
    ) -> Result<Option<OpenTurn>, LogError> {
        type Row = (TurnId, String, bool, bool, Option<String>, Option<String>);
        let row: Option<Row> = sqlx::query_as(
            "SELECT id, run_id, sent, cancel_requested, origin,
                    (SELECT gateway_key FROM sessions WHERE sessions.id = session_id)
             FROM turns WHERE session_id = $1 AND status IN ('queued', 'running')
             ORDER BY status = 'queued', seq LIMIT 1",
        )
        .bind(session)
        .fetch_optional(&self.reader)
        .await?;
        let Some((id, run_id, is_sent, cancel_requested, origin, key)) = row else { return Ok(None) };
        Ok(Some(OpenTurn {
            id,
            session_id: session,
            key: key.unwrap_or_else(|| session_key(session)),
            origin: origin_of(origin)?,
            run_id,
            is_sent,
            cancel_requested,
        }))
    }

    /// Returns the sessions that have turns to run, with the gateway's names of them.
    pub(in super::super) async fn busy_sessions(&self) -> Result<Vec<(ChatSessionId, String)>, LogError> {
        let rows: Vec<(ChatSessionId, Option<String>)> = sqlx::query_as(
            "SELECT id, gateway_key FROM sessions
             WHERE id IN (SELECT session_id FROM turns WHERE status IN ('queued', 'running'))",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().map(|(id, key)| (id, key.unwrap_or_else(|| session_key(id)))).collect())
    }

    /// Tells whether a run is a turn of ours, ended or not.
    pub(in super::super) async fn knows_run(&self, run_id: &str) -> Result<bool, LogError> {
        let turn: Option<TurnId> = run_id.parse().ok();
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM turns WHERE run_id = $1 OR id = $2 LIMIT 1")
                .bind(run_id)
                .bind(turn)
                .fetch_optional(&self.reader)
                .await?;
        Ok(found.is_some())
    }

    /// Tells whether somebody wants the turn stopped.
    pub(in super::super) async fn is_cancel_requested(&self, id: TurnId) -> Result<bool, LogError> {
        let wanted: Option<bool> = sqlx::query_scalar("SELECT cancel_requested FROM turns WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        Ok(wanted.unwrap_or(false))
    }

    /// Returns what a turn asked for.
    pub(in super::super) async fn request(&self, id: TurnId) -> Result<Option<StoredRequest>, LogError> {
        let stored: Option<Option<String>> = sqlx::query_scalar("SELECT request FROM turns WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        Ok(stored.flatten().as_deref().map(serde_json::from_str).transpose()?)
    }
}
