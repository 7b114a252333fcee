//! Everything that changes the log; each function is one transaction.

use reef_door::chat::{EventBody, Origin, Role, ToolCall, TurnStarted, TurnStatus};
use reef_model::{ChatSessionId, TurnId};
use sqlx::types::Uuid;

use super::{super::session_key, End, Log, LogError, OpenTurn, StoredRequest};
use crate::door::named::Name;

/// Turns that may wait or run at a time; each holds its request, and what the gateway says of it.
pub(in super::super) const OPEN_TURNS: u32 = 256;

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
    /// The session is a conversation of others.
    #[error("the conversation is not one of the chat routes")]
    Foreign,
    /// The key came before, with another body.
    #[error("the Idempotency-Key was used with another body")]
    KeyReused,
    /// As many turns wait or run as may.
    #[error("{OPEN_TURNS} turns are waiting or running")]
    TooManyTurns,
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<sqlx::Error> for AcceptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// A name for a request, and a hash of the route and body that it came with.
#[derive(Debug, Clone)]
pub(in super::super) struct Fingerprint {
    pub(in super::super) name: Name,
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

/// A turn that began elsewhere.
#[derive(Debug)]
pub(in super::super) struct NewForeign {
    pub(in super::super) place: Place,
    pub(in super::super) origin: Origin,
    /// The gateway's run.
    pub(in super::super) run_id: String,
    /// What was said, where that is known.
    pub(in super::super) message: Option<String>,
}

/// Where a turn that began elsewhere is.
#[derive(Debug)]
pub(in super::super) enum Place {
    /// In a session of the chat routes.
    Ours(ChatSessionId),
    /// In another one, which gets this title.
    Theirs {
        /// The gateway's name.
        key: String,
        /// What to call it.
        title: String,
    },
}

impl Log {
    /// Logs a new turn: `turn.started` and the user's `message.created`.
    pub(in super::super) async fn accept(&self, new: NewTurn) -> Result<Accepted<OpenTurn>, AcceptError> {
        let mut batch = self.begin().await?;
        if let Some(target) = batch.replay(new.fingerprint.as_ref()).await? {
            return Ok(Accepted::Replayed(target));
        }
        batch.has_room().await?;
        if batch.activity.active_turns >= OPEN_TURNS {
            return Err(AcceptError::TooManyTurns);
        }
        let session_id = match new.session {
            Some(id) => match batch.is_foreign(id).await? {
                Some(false) => id,
                Some(true) => return Err(AcceptError::Foreign),
                None => return Err(AcceptError::NoSession),
            },
            None => match batch.newest_session().await? {
                Some(id) => id,
                None => batch.create_session("").await?,
            },
        };
        let turn = OpenTurn {
            id: TurnId::generate(),
            session_id,
            key: session_key(session_id),
            origin: None,
            run_id: String::new(),
            is_sent: false,
            cancel_requested: false,
        };
        let turn = OpenTurn { run_id: turn.id.to_string(), ..turn };
        let attachments = new.request.attachments.iter().map(|file| file.name.clone()).collect();
        batch.insert_turn(&turn, TurnStatus::Queued, Some(&new.request)).await?;
        batch
            .event(&turn, |_, _| {
                EventBody::TurnStarted(TurnStarted { turn_id: turn.id, session_id, origin: None })
            })
            .await?;
        batch.message(&turn, Role::User, new.request.message, attachments).await?;
        batch.remember(new.fingerprint.as_ref(), turn.id.as_uuid()).await?;
        batch.activity.active_turns += 1;
        self.commit(batch).await?;
        Ok(Accepted::New(turn))
    }

    /// Logs a turn that runs already and did not begin at the chat routes.
    pub(in super::super) async fn accept_foreign(&self, new: NewForeign) -> Result<OpenTurn, AcceptError> {
        let NewForeign { place, origin, run_id, message } = new;
        let mut batch = self.begin().await?;
        batch.has_room().await?;
        if batch.activity.active_turns >= OPEN_TURNS {
            return Err(AcceptError::TooManyTurns);
        }
        let (session_id, key) = match place {
            Place::Ours(id) => {
                batch.is_foreign(id).await?.ok_or(AcceptError::NoSession)?;
                (id, session_key(id))
            }
            Place::Theirs { key, title } => (batch.ensure_foreign_session(&key, origin, &title).await?, key),
        };
        let turn = OpenTurn {
            id: TurnId::generate(),
            session_id,
            key,
            origin: Some(origin),
            run_id,
            is_sent: true,
            cancel_requested: false,
        };
        batch.insert_turn(&turn, TurnStatus::Running, None).await?;
        let started = TurnStarted { turn_id: turn.id, session_id, origin: turn.origin };
        batch.event(&turn, |_, _| EventBody::TurnStarted(started)).await?;
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
        batch.has_room().await?;
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

    /// Notes that the turn's request may reach the gateway from here on, under this run id; `false` when the turn has
    /// ended.
    pub(in super::super) async fn mark_running(&self, turn: &OpenTurn) -> Result<bool, LogError> {
        let mut batch = self.begin().await?;
        let done = sqlx::query(
            "UPDATE turns SET status = 'running', sent = 1, run_id = $1
             WHERE id = $2 AND status IN ('queued', 'running')",
        )
        .bind(&turn.run_id)
        .bind(turn.id)
        .execute(batch.conn())
        .await?;
        self.commit(batch).await?;
        Ok(done.rows_affected() > 0)
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
        let turn = OpenTurn {
            id,
            session_id,
            key: String::new(),
            origin: None,
            run_id,
            is_sent: false,
            cancel_requested: true,
        };
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
        batch.has_room().await?;
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
        sqlx::query(
            "INSERT INTO forgotten (session_id, gateway_key) SELECT id, gateway_key FROM sessions WHERE id = $1
             ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .execute(batch.conn())
        .await?;
        let done = sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id).execute(batch.conn()).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
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
}

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum CancelRequest {
    /// It has ended, just now or before.
    Ended,
    /// It runs; whoever drives it must stop it.
    Running(ChatSessionId),
}
