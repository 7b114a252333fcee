//! Everything that changes the log; each function is one transaction.

use std::{sync::Arc, time::Duration};

use reef_door::chat::{
    ChatMessage, EventBody, MessageDelta, MessageEvent, Role, ToolCall, ToolEvent, TurnEnded, TurnStarted,
    TurnStatus,
};
use reef_model::{ChatSessionId, MessageId, Timestamp, TurnId};
use sqlx::{SqliteConnection, types::Uuid};
use tokio::sync::OwnedMutexGuard;

use super::{Activity, End, Entry, Live, Log, LogError, OpenTurn, StoredRequest, Writer, entry_of, signed};

/// How long an `Idempotency-Key` is remembered.
const KEY_TTL: Duration = Duration::from_secs(24 * 3600);
/// Characters of the first message that become the title.
const TITLE_CHARS: usize = 60;

/// An event of a running turn to be, without id and time.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Draft {
    /// Text to append to the answer.
    Delta(String),
    /// A tool was called.
    ToolStarted(ToolCall),
    /// A tool answered.
    ToolCompleted(ToolCall),
    /// Somebody else's message, taken into the running turn.
    Heard(String),
}

/// What an accepted request comes to.
#[derive(Debug)]
pub(in super::super) enum Accepted<T> {
    /// Something new.
    New(T),
    /// The id of what an earlier request with the same key made.
    Replayed(Uuid),
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum AcceptError {
    /// There is no such session.
    #[error("there is no such chat session")]
    NoSession,
    /// The key came before, with another body.
    #[error("the Idempotency-Key was used with another body")]
    KeyReused,
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<sqlx::Error> for AcceptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// `Idempotency-Key`, and a hash of the route and body that it came with.
#[derive(Debug, Clone)]
pub(in super::super) struct Fingerprint {
    pub(in super::super) key: String,
    pub(in super::super) body: [u8; 32],
}

/// A turn to be.
#[derive(Debug)]
pub(in super::super) struct NewTurn {
    /// None: the newest session, or a new one.
    pub(in super::super) session: Option<ChatSessionId>,
    pub(in super::super) request: StoredRequest,
    pub(in super::super) fingerprint: Option<Fingerprint>,
}

impl Log {
    /// Logs a new turn: `turn.started` and the user's `message.created`.
    pub(in super::super) async fn accept(&self, new: NewTurn) -> Result<Accepted<OpenTurn>, AcceptError> {
        let mut batch = self.begin().await?;
        if let Some(target) = batch.replay(new.fingerprint.as_ref()).await? {
            return Ok(Accepted::Replayed(target));
        }
        let session_id = match new.session {
            Some(id) => batch.has_session(id).await?.then_some(id).ok_or(AcceptError::NoSession)?,
            None => match batch.newest_session().await? {
                Some(id) => id,
                None => batch.create_session("").await?,
            },
        };
        let turn = OpenTurn {
            id: TurnId::generate(),
            session_id,
            run_id: String::new(),
            is_sent: false,
            cancel_requested: false,
        };
        let turn = OpenTurn { run_id: turn.id.to_string(), ..turn };
        let attachments = new.request.attachments.iter().map(|file| file.name.clone()).collect();
        batch.insert_turn(&turn, TurnStatus::Queued, Some(&new.request)).await?;
        batch
            .event(&turn, |_, _| EventBody::TurnStarted(TurnStarted { turn_id: turn.id, session_id }))
            .await?;
        batch.message(&turn, Role::User, new.request.message, attachments).await?;
        batch.remember(new.fingerprint.as_ref(), turn.id.as_uuid()).await?;
        batch.activity.active_turns += 1;
        self.commit(batch).await?;
        Ok(Accepted::New(turn))
    }

    /// Logs a turn that runs already, started by somebody else's message in the gateway.
    pub(in super::super) async fn accept_foreign(
        &self,
        session_id: ChatSessionId,
        run_id: &str,
        message: Option<String>,
    ) -> Result<OpenTurn, AcceptError> {
        let mut batch = self.begin().await?;
        if !batch.has_session(session_id).await? {
            return Err(AcceptError::NoSession);
        }
        let turn = OpenTurn {
            id: TurnId::generate(),
            session_id,
            run_id: run_id.to_owned(),
            is_sent: true,
            cancel_requested: false,
        };
        batch.insert_turn(&turn, TurnStatus::Running, None).await?;
        batch
            .event(&turn, |_, _| EventBody::TurnStarted(TurnStarted { turn_id: turn.id, session_id }))
            .await?;
        if let Some(text) = message {
            batch.message(&turn, Role::User, text, Vec::new()).await?;
        }
        batch.activity.active_turns += 1;
        self.commit(batch).await?;
        Ok(turn)
    }

    /// Appends what happened in a turn.
    pub(in super::super) async fn append(&self, turn: &OpenTurn, drafts: Vec<Draft>) -> Result<(), LogError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let mut batch = self.begin().await?;
        batch.drafts(turn, drafts).await?;
        self.commit(batch).await
    }

    /// Appends a turn's last events: the answer, whole or partial, and how it ended. `false` when it had ended before.
    pub(in super::super) async fn end(
        &self,
        turn: &OpenTurn,
        drafts: Vec<Draft>,
        end: End,
    ) -> Result<bool, LogError> {
        let mut batch = self.begin().await?;
        let is_open: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM turns WHERE id = $1 AND status IN ('queued', 'running')")
                .bind(turn.id)
                .fetch_optional(batch.conn())
                .await?;
        if is_open.is_none() {
            return Ok(false);
        }
        batch.drafts(turn, drafts).await?;
        batch.ending(turn, end).await?;
        batch.activity.active_turns = batch.activity.active_turns.saturating_sub(1);
        self.commit(batch).await?;
        Ok(true)
    }

    /// Notes that the turn's request may reach the gateway from here on, under this run id.
    pub(in super::super) async fn mark_running(&self, turn: &OpenTurn) -> Result<(), LogError> {
        let mut batch = self.begin().await?;
        sqlx::query("UPDATE turns SET status = 'running', sent = 1, run_id = $1 WHERE id = $2 AND status IN ('queued', 'running')")
            .bind(&turn.run_id)
            .bind(turn.id)
            .execute(batch.conn())
            .await?;
        self.commit(batch).await
    }

    /// Notes the wish to stop a turn; one that was not sent ends here. `None`: no such turn.
    pub(in super::super) async fn request_cancel(
        &self,
        id: TurnId,
    ) -> Result<Option<CancelRequest>, LogError> {
        let mut batch = self.begin().await?;
        let row: Option<(ChatSessionId, String, String)> =
            sqlx::query_as("SELECT session_id, run_id, status FROM turns WHERE id = $1")
                .bind(id)
                .fetch_optional(batch.conn())
                .await?;
        let Some((session_id, run_id, status)) = row else { return Ok(None) };
        let turn = OpenTurn { id, session_id, run_id, is_sent: false, cancel_requested: true };
        let outcome = match status.as_str() {
            "queued" => {
                let end = End {
                    status: TurnStatus::Cancelled,
                    content: String::new(),
                    tools: Vec::new(),
                    usage: None,
                    error: None,
                };
                batch.ending(&turn, end).await?;
                batch.activity.active_turns = batch.activity.active_turns.saturating_sub(1);
                CancelRequest::Ended
            }
            "running" => {
                sqlx::query("UPDATE turns SET cancel_requested = 1 WHERE id = $1")
                    .bind(id)
                    .execute(batch.conn())
                    .await?;
                CancelRequest::Running(session_id)
            }
            _ => CancelRequest::Ended,
        };
        self.commit(batch).await?;
        Ok(Some(outcome))
    }

    /// Makes a session.
    pub(in super::super) async fn create_session(
        &self,
        title: &str,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<Accepted<ChatSessionId>, AcceptError> {
        let mut batch = self.begin().await?;
        if let Some(target) = batch.replay(fingerprint).await? {
            return Ok(Accepted::Replayed(target));
        }
        let id = batch.create_session(title).await?;
        batch.remember(fingerprint, id.as_uuid()).await?;
        self.commit(batch).await?;
        Ok(Accepted::New(id))
    }

    /// Names a session; `false` when there is none.
    pub(in super::super) async fn rename_session(
        &self,
        id: ChatSessionId,
        title: &str,
    ) -> Result<bool, LogError> {
        let mut batch = self.begin().await?;
        let now = batch.now;
        let done = sqlx::query("UPDATE sessions SET title = $1, updated_at = $2 WHERE id = $3")
            .bind(title)
            .bind(now)
            .bind(id)
            .execute(batch.conn())
            .await?;
        self.commit(batch).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes a session with its events and notes that the gateway must forget it too; `false` when there is none.
    pub(in super::super) async fn delete_session(&self, id: ChatSessionId) -> Result<bool, LogError> {
        let mut batch = self.begin().await?;
        let open: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM turns WHERE session_id = $1 AND status IN ('queued', 'running')",
        )
        .bind(id)
        .fetch_one(batch.conn())
        .await?;
        let done = sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id).execute(batch.conn()).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO forgotten (session_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(id)
            .execute(batch.conn())
            .await?;
        batch.activity.active_turns =
            batch.activity.active_turns.saturating_sub(u32::try_from(open).unwrap_or(u32::MAX));
        self.commit(batch).await?;
        self.hang_up(id);
        Ok(true)
    }

    /// Notes that the gateway has forgotten a deleted session.
    pub(in super::super) async fn forgot(&self, id: ChatSessionId) -> Result<(), LogError> {
        let mut batch = self.begin().await?;
        sqlx::query("DELETE FROM forgotten WHERE session_id = $1").bind(id).execute(batch.conn()).await?;
        self.commit(batch).await
    }

    async fn begin(&self) -> Result<Batch, LogError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        if writer.is_open {
            sqlx::raw_sql("ROLLBACK").execute(&mut writer.conn).await.ok();
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
        })
    }

    async fn commit(&self, mut batch: Batch) -> Result<(), LogError> {
        sqlx::raw_sql("COMMIT").execute(batch.conn()).await?;
        batch.writer.is_open = false;
        batch.writer.last_id = batch.last_id;
        // Still under the writer's lock: published in the order of the ids.
        for (session, entry) in batch.made.drain(..) {
            self.publish(session, Live::Event(Arc::new(entry)));
        }
        self.activity
            .send_if_modified(|activity| std::mem::replace(activity, batch.activity) != batch.activity);
        Ok(())
    }
}

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum CancelRequest {
    /// It has ended, just now or before.
    Ended,
    /// It runs; whoever drives it must stop it.
    Running(ChatSessionId),
}

/// A write transaction. Dropped without [`Log::commit`], the next one rolls it back.
struct Batch {
    writer: OwnedMutexGuard<Writer>,
    last_id: u64,
    now: Timestamp,
    made: Vec<(ChatSessionId, Entry)>,
    activity: Activity,
}

impl Batch {
    fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.writer.conn
    }

    async fn has_session(&mut self, id: ChatSessionId) -> Result<bool, LogError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sessions WHERE id = $1")
            .bind(id)
            .fetch_optional(self.conn())
            .await?;
        Ok(found.is_some())
    }

    async fn newest_session(&mut self) -> Result<Option<ChatSessionId>, LogError> {
        Ok(sqlx::query_scalar("SELECT id FROM sessions ORDER BY updated_at DESC, id DESC LIMIT 1")
            .fetch_optional(self.conn())
            .await?)
    }

    async fn create_session(&mut self, title: &str) -> Result<ChatSessionId, LogError> {
        let (id, now) = (ChatSessionId::generate(), self.now);
        sqlx::query("INSERT INTO sessions (id, title, created_at, updated_at) VALUES ($1, $2, $3, $3)")
            .bind(id)
            .bind(title)
            .bind(now)
            .execute(self.conn())
            .await?;
        Ok(id)
    }

    async fn insert_turn(
        &mut self,
        turn: &OpenTurn,
        status: TurnStatus,
        request: Option<&StoredRequest>,
    ) -> Result<(), LogError> {
        let (now, request) = (self.now, request.map(serde_json::to_string).transpose()?);
        sqlx::query(
            "INSERT INTO turns (id, session_id, status, run_id, request, sent, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(turn.id)
        .bind(turn.session_id)
        .bind(status.as_str())
        .bind(&turn.run_id)
        .bind(request)
        .bind(turn.is_sent)
        .bind(now)
        .execute(self.conn())
        .await?;
        self.activity.last_active_at = Some(now);
        Ok(())
    }

    async fn event(
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
    async fn message(
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

    async fn drafts(&mut self, turn: &OpenTurn, drafts: Vec<Draft>) -> Result<(), LogError> {
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

    async fn ending(&mut self, turn: &OpenTurn, end: End) -> Result<(), LogError> {
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
    async fn replay(&mut self, fingerprint: Option<&Fingerprint>) -> Result<Option<Uuid>, AcceptError> {
        let Some(Fingerprint { key, body }) = fingerprint else { return Ok(None) };
        let expired = self.now - KEY_TTL;
        sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
            .bind(expired)
            .execute(self.conn())
            .await?;
        let row: Option<(Vec<u8>, Uuid)> =
            sqlx::query_as("SELECT fingerprint, target FROM idempotency WHERE key = $1")
                .bind(key)
                .fetch_optional(self.conn())
                .await?;
        match row {
            Some((known, _)) if known != body => Err(AcceptError::KeyReused),
            row => Ok(row.map(|(_, target)| target)),
        }
    }

    async fn remember(&mut self, fingerprint: Option<&Fingerprint>, target: Uuid) -> Result<(), LogError> {
        let Some(Fingerprint { key, body }) = fingerprint else { return Ok(()) };
        let now = self.now;
        sqlx::query("INSERT INTO idempotency (key, fingerprint, target, created_at) VALUES ($1, $2, $3, $4)")
            .bind(key)
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
