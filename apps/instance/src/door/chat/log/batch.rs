//! A write transaction, and the rows that it makes.

use std::{sync::Arc, time::Duration};

use reef_door::chat::{
    ChatMessage, EventBody, MessageDelta, MessageEvent, Origin, Role, ToolEvent, TurnEnded, TurnStatus,
};
use reef_model::{ChatSessionId, MessageId, Timestamp};
use sqlx::{SqliteConnection, types::Uuid};
use tokio::sync::OwnedMutexGuard;

use super::{
    AcceptError, Activity, Draft, End, Entry, Fingerprint, LIVE_BYTES, Live, Log, LogError, OpenTurn,
    StoredRequest, USED_BYTES, Writer, active_turns, entry_of, last_id, signed, unsigned,
};

/// How long an `Idempotency-Key` is remembered.
const KEY_TTL: Duration = Duration::from_secs(24 * 3600);
/// Characters of the first message that become the title.
const TITLE_CHARS: usize = 60;

impl Log {
    pub(super) async fn begin(&self) -> Result<Batch, LogError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        if writer.is_open {
            self.recover(&mut writer).await?;
        }
        writer.is_open = true;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer.conn).await?;
        let last_id = writer.last_id;
        Ok(Batch {
            writer,
            last_id,
            now: self.clock.now(),
            made: Vec::new(),
            activity: *self.activity.borrow(),
            limit_bytes: self.limit_bytes,
        })
    }

    /// Ends a transaction that was left open; where its owner was dropped in a commit, that may have come through.
    async fn recover(&self, writer: &mut Writer) -> Result<(), LogError> {
        // Fails where there is none any more.
        sqlx::raw_sql("ROLLBACK").execute(&mut writer.conn).await.ok();
        let last_id = last_id(&mut writer.conn).await?;
        let active_turns = active_turns(&mut writer.conn).await?;
        writer.is_open = false;
        self.activity.send_if_modified(|activity| {
            std::mem::replace(&mut activity.active_turns, active_turns) != active_turns
        });
        if std::mem::replace(&mut writer.last_id, last_id) != last_id {
            self.send_to_log();
        }
        Ok(())
    }

    pub(super) async fn commit(&self, mut batch: Batch) -> Result<(), LogError> {
        sqlx::raw_sql("COMMIT").execute(batch.conn()).await?;
        batch.writer.is_open = false;
        batch.writer.last_id = batch.last_id;
        // Still under the writer's lock: published in the order of the ids.
        for (session, entry) in batch.made.drain(..) {
            let is_large = entry.data.len() > LIVE_BYTES;
            self.publish(session, if is_large { Live::Unheld } else { Live::Event(Arc::new(entry)) });
        }
        self.activity
            .send_if_modified(|activity| std::mem::replace(activity, batch.activity) != batch.activity);
        Ok(())
    }
}

/// A write transaction. Dropped without [`Log::commit`], the next one rolls it back.
pub(super) struct Batch {
    writer: OwnedMutexGuard<Writer>,
    last_id: u64,
    pub(super) now: Timestamp,
    made: Vec<(ChatSessionId, Entry)>,
    pub(super) activity: Activity,
    limit_bytes: u64,
}

impl Batch {
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.writer.conn
    }

    /// Refuses to go on when the log has reached its limit.
    pub(super) async fn has_room(&mut self) -> Result<(), LogError> {
        let used: i64 = sqlx::query_scalar(USED_BYTES).fetch_one(self.conn()).await?;
        if unsigned(used) < self.limit_bytes { Ok(()) } else { Err(LogError::Capped(self.limit_bytes)) }
    }

    /// Tells whether a session is a conversation of others; `None` when there is no such session.
    pub(super) async fn is_foreign(&mut self, id: ChatSessionId) -> Result<Option<bool>, LogError> {
        Ok(sqlx::query_scalar("SELECT origin IS NOT NULL FROM sessions WHERE id = $1")
            .bind(id)
            .fetch_optional(self.conn())
            .await?)
    }

    pub(super) async fn newest_session(&mut self) -> Result<Option<ChatSessionId>, LogError> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM sessions WHERE origin IS NULL ORDER BY updated_at DESC, id DESC LIMIT 1",
        )
        .fetch_optional(self.conn())
        .await?)
    }

    /// Returns the session that the gateway knows by this name, made if need be.
    pub(super) async fn ensure_foreign_session(
        &mut self,
        key: &str,
        origin: Origin,
        title: &str,
    ) -> Result<ChatSessionId, LogError> {
        let known: Option<ChatSessionId> =
            sqlx::query_scalar("SELECT id FROM sessions WHERE gateway_key = $1")
                .bind(key)
                .fetch_optional(self.conn())
                .await?;
        if let Some(id) = known {
            return Ok(id);
        }
        let id = self.create_session(title).await?;
        sqlx::query("UPDATE sessions SET origin = $1, gateway_key = $2 WHERE id = $3")
            .bind(origin.as_str())
            .bind(key)
            .bind(id)
            .execute(self.conn())
            .await?;
        Ok(id)
    }

    pub(super) async fn create_session(&mut self, title: &str) -> Result<ChatSessionId, LogError> {
        let (id, now) = (ChatSessionId::generate(), self.now);
        sqlx::query("INSERT INTO sessions (id, title, created_at, updated_at) VALUES ($1, $2, $3, $3)")
            .bind(id)
            .bind(title)
            .bind(now)
            .execute(self.conn())
            .await?;
        Ok(id)
    }

    pub(super) async fn insert_turn(
        &mut self,
        turn: &OpenTurn,
        status: TurnStatus,
        request: Option<&StoredRequest>,
    ) -> Result<(), LogError> {
        let (now, request) = (self.now, request.map(serde_json::to_string).transpose()?);
        sqlx::query(
            "INSERT INTO turns (id, session_id, status, run_id, request, sent, created_at, origin)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(turn.id)
        .bind(turn.session_id)
        .bind(status.as_str())
        .bind(&turn.run_id)
        .bind(request)
        .bind(turn.is_sent)
        .bind(now)
        .bind(turn.origin.map(Origin::as_str))
        .execute(self.conn())
        .await?;
        self.activity.last_active_at = Some(now);
        Ok(())
    }

    pub(super) async fn event(
        &mut self,
        turn: &OpenTurn,
        body: impl FnOnce(u64, Timestamp) -> EventBody,
    ) -> Result<u64, LogError> {
        let id = self.last_id + 1;
        let body = body(id, self.now);
        let message_id = match &body {
            EventBody::MessageCreated(event) | EventBody::MessageCompleted(event) => Some(event.message.id),
            EventBody::TurnStarted(_)
            | EventBody::MessageDelta(_)
            | EventBody::ToolStarted(_)
            | EventBody::ToolCompleted(_)
            | EventBody::TurnEnded(_) => None,
        };
        let entry = entry_of(id, turn.id, &body)?;
        sqlx::query(
            "INSERT INTO events (id, session_id, turn_id, name, is_kept, is_terminal, message_id, data)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(signed(id))
        .bind(turn.session_id)
        .bind(turn.id)
        .bind(&entry.name)
        .bind(entry.is_kept)
        .bind(entry.is_terminal)
        .bind(message_id)
        .bind(&entry.data)
        .execute(self.conn())
        .await?;
        self.last_id = id;
        let now = self.now;
        sqlx::query(
            "UPDATE sessions SET last_event_id = $1, message_count = message_count + $2,
                    updated_at = CASE WHEN $3 THEN $4 ELSE updated_at END
             WHERE id = $5",
        )
        .bind(signed(id))
        .bind(message_id.is_some())
        .bind(entry.is_kept)
        .bind(now)
        .bind(turn.session_id)
        .execute(self.conn())
        .await?;
        sqlx::query("UPDATE turns SET last_event_id = $1 WHERE id = $2")
            .bind(signed(id))
            .bind(turn.id)
            .execute(self.conn())
            .await?;
        self.made.push((turn.session_id, entry));
        Ok(id)
    }

    /// Logs somebody's message; the first one names the session.
    pub(super) async fn message(
        &mut self,
        turn: &OpenTurn,
        role: Role,
        content: String,
        attachments: Vec<String>,
    ) -> Result<(), LogError> {
        sqlx::query("UPDATE sessions SET title = $1 WHERE id = $2 AND title = ''")
            .bind(title_of(&content, &attachments))
            .bind(turn.session_id)
            .execute(self.conn())
            .await?;
        self.event(turn, |event_id, now| {
            let message = ChatMessage {
                id: MessageId::generate(),
                session_id: turn.session_id,
                turn_id: turn.id,
                role,
                content,
                status: TurnStatus::Completed,
                event_id,
                created_at: now,
                usage: None,
                tools: Vec::new(),
                attachments,
            };
            EventBody::MessageCreated(MessageEvent { turn_id: turn.id, message })
        })
        .await?;
        Ok(())
    }

    pub(super) async fn drafts(&mut self, turn: &OpenTurn, drafts: Vec<Draft>) -> Result<(), LogError> {
        let turn_id = turn.id;
        for draft in drafts {
            let body = match draft {
                Draft::Heard(text) => {
                    self.message(turn, Role::User, text, Vec::new()).await?;
                    continue;
                }
                Draft::Delta(text) => EventBody::MessageDelta(MessageDelta { turn_id, text }),
                Draft::ToolStarted(tool) => EventBody::ToolStarted(ToolEvent { turn_id, tool }),
                Draft::ToolCompleted(tool) => EventBody::ToolCompleted(ToolEvent { turn_id, tool }),
            };
            self.event(turn, |_, _| body).await?;
        }
        Ok(())
    }

    pub(super) async fn ending(&mut self, turn: &OpenTurn, end: End) -> Result<(), LogError> {
        let End { status, content, tools, usage, error } = end;
        let stored_usage = usage.map(|usage| serde_json::to_string(&usage)).transpose()?;
        let stored_error = error.as_ref().map(serde_json::to_string).transpose()?;
        if status == TurnStatus::Completed || !content.is_empty() || !tools.is_empty() {
            self.event(turn, |event_id, now| {
                let message = ChatMessage {
                    id: MessageId::generate(),
                    session_id: turn.session_id,
                    turn_id: turn.id,
                    role: Role::Assistant,
                    content,
                    status,
                    event_id,
                    created_at: now,
                    usage,
                    tools,
                    attachments: Vec::new(),
                };
                EventBody::MessageCompleted(MessageEvent { turn_id: turn.id, message })
            })
            .await?;
        }
        let ended = TurnEnded { turn_id: turn.id, status, usage, error };
        self.event(turn, |_, _| EventBody::TurnEnded(ended)).await?;
        let now = self.now;
        sqlx::query(
            "UPDATE turns SET status = $1, usage = $2, error = $3, ended_at = $4, request = NULL WHERE id = $5",
        )
        .bind(status.as_str())
        .bind(stored_usage)
        .bind(stored_error)
        .bind(now)
        .bind(turn.id)
        .execute(self.conn())
        .await?;
        self.activity.last_active_at = Some(now);
        Ok(())
    }

    /// Returns what an earlier request with this key made.
    pub(super) async fn replay(
        &mut self,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<Option<Uuid>, AcceptError> {
        let Some(Fingerprint { name, body }) = fingerprint else { return Ok(None) };
        let expired = self.now - KEY_TTL;
        sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
            .bind(expired)
            .execute(self.conn())
            .await?;
        let row: Option<(Vec<u8>, Uuid)> =
            sqlx::query_as("SELECT fingerprint, target FROM idempotency WHERE caller = $1 AND key = $2")
                .bind(&name.caller)
                .bind(&name.name)
                .fetch_optional(self.conn())
                .await?;
        match row {
            Some((known, _)) if known != body => Err(AcceptError::KeyReused),
            row => Ok(row.map(|(_, target)| target)),
        }
    }

    pub(super) async fn remember(
        &mut self,
        fingerprint: Option<&Fingerprint>,
        target: Uuid,
    ) -> Result<(), LogError> {
        let Some(Fingerprint { name, body }) = fingerprint else { return Ok(()) };
        let now = self.now;
        sqlx::query(
            "INSERT INTO idempotency (caller, key, fingerprint, target, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&name.caller)
        .bind(&name.name)
        .bind(&body[..])
        .bind(target)
        .bind(now)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

fn title_of(content: &str, attachments: &[String]) -> String {
    let words = content.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = if words.is_empty() { attachments.first().cloned().unwrap_or_default() } else { words };
    if text.chars().count() <= TITLE_CHARS {
        return text;
    }
    let cut: String = text.chars().take(TITLE_CHARS - 1).collect();
    format!("{}…", cut.trim_end())
}
