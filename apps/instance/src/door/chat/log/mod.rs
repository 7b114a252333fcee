//! The append-only chat log: one SQLite file in the door's private directory.
//!
//! Event ids come from one strictly increasing sequence; the schema allows one terminal event per turn. An event is
//! committed before anybody sees it, and published in id order, because both happen under the writer's lock.
//! `synchronous=FULL`: what a client saw survives a power cut too.

mod batch;
mod read;
mod write;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use reef_door::chat::{Attachment, EventBody, ToolCall, TurnError, TurnStatus, Usage};
use reef_model::{ChatSessionId, Clock, Timestamp, TurnId};
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{broadcast, watch};

pub(super) use read::Window;
pub(super) use write::{AcceptError, Accepted, CancelRequest, Draft, Fingerprint, NewTurn};

/// Live events that a follower may be behind before it is sent to the log instead.
const LIVE_EVENTS: usize = 256;

/// Why the log did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// No room on the disk.
    #[error("the instance's disk is full")]
    Full(#[source] sqlx::Error),
    /// Anything else of the database.
    #[error("the chat log failed")]
    Sql(#[source] sqlx::Error),
    /// A stored value cannot be read.
    #[error("a stored chat event cannot be read")]
    Json(#[from] serde_json::Error),
}

impl From<sqlx::Error> for LogError {
    fn from(error: sqlx::Error) -> Self {
        const SQLITE_FULL: &str = "13";
        let is_full =
            error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == SQLITE_FULL);
        if is_full { Self::Full(error) } else { Self::Sql(error) }
    }
}

/// What the instance is doing, for the door's status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Turns queued or running.
    pub active_turns: u32,
    /// When a turn last began or ended.
    pub last_active_at: Option<Timestamp>,
}

/// One event as stored.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) turn_id: TurnId,
    pub(super) name: String,
    pub(super) is_kept: bool,
    pub(super) is_terminal: bool,
    /// One JSON object.
    pub(super) data: String,
}

/// What a turn asked for, kept until it has ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct StoredRequest {
    pub(super) message: String,
    #[serde(default)]
    pub(super) attachments: Vec<Attachment>,
}

/// A turn that has not ended.
#[derive(Debug, Clone)]
pub(super) struct OpenTurn {
    pub(super) id: TurnId,
    pub(super) session_id: ChatSessionId,
    pub(super) run_id: String,
    pub(super) is_sent: bool,
    pub(super) cancel_requested: bool,
}

/// How a turn ended, as logged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) status: TurnStatus,
    pub(super) content: String,
    pub(super) tools: Vec<ToolCall>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<TurnError>,
}

/// What a live follower hears.
#[derive(Debug, Clone)]
pub(super) enum Live {
    /// A committed event.
    Event(Arc<Entry>),
    /// The turn's next event cannot be written at present.
    Stuck(TurnId),
}

/// The log.
pub(super) struct Log {
    writer: Arc<tokio::sync::Mutex<Writer>>,
    reader: SqlitePool,
    followers: Mutex<HashMap<ChatSessionId, broadcast::Sender<Live>>>,
    activity: watch::Sender<Activity>,
    clock: Arc<dyn Clock>,
}

struct Writer {
    conn: SqliteConnection,
    last_id: u64,
    /// A transaction was begun and neither committed nor rolled back: its owner was dropped.
    is_open: bool,
}

impl Log {
    /// Opens or makes the log at `path`.
    pub(super) async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let mut conn = SqliteConnection::connect_with(&options).await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut conn).await?;
        if version == 0 {
            let mut tx = conn.begin().await?;
            sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        let last_id: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'")
                .fetch_one(&mut conn)
                .await?;
        let active: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM turns WHERE status IN ('queued', 'running')")
                .fetch_one(&mut conn)
                .await?;
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        let activity =
            Activity { active_turns: u32::try_from(active).unwrap_or(u32::MAX), last_active_at: None };
        Ok(Self {
            writer: Arc::new(tokio::sync::Mutex::new(Writer {
                conn,
                last_id: unsigned(last_id),
                is_open: false,
            })),
            reader,
            followers: Mutex::default(),
            activity: watch::Sender::new(activity),
            clock,
        })
    }

    /// Subscribes to what is committed in a session from now on.
    pub(super) fn follow(&self, session: ChatSessionId) -> broadcast::Receiver<Live> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(session).or_insert_with(|| broadcast::Sender::new(LIVE_EVENTS)).subscribe()
    }

    /// Tells live followers that a turn's next event cannot be written now.
    pub(super) fn announce_stuck(&self, session: ChatSessionId, turn: TurnId) {
        self.publish(session, Live::Stuck(turn));
    }

    pub(super) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    fn publish(&self, session: ChatSessionId, live: Live) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = followers.get(&session)
            && sender.send(live).is_err()
        {
            followers.remove(&session);
        }
    }

    /// Ends the streams of a deleted session.
    fn hang_up(&self, session: ChatSessionId) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn entry_of(id: u64, turn_id: TurnId, body: &EventBody) -> Result<Entry, LogError> {
    Ok(Entry {
        id,
        turn_id,
        name: body.name().to_owned(),
        is_kept: body.is_kept(),
        is_terminal: body.is_terminal(),
        data: serde_json::to_string(body)?,
    })
}

#[cfg(test)]
impl Log {
    /// Lets the file grow no further than it is, or frees it again; what a full disk looks like.
    pub(super) async fn set_full(&self, is_full: bool) {
        let mut writer = self.writer.lock().await;
        let sql = if is_full { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1000000" };
        sqlx::raw_sql(sql).execute(&mut writer.conn).await.unwrap();
    }
}
