//! The append-only chat log: one SQLite file in the door's private directory.
//!
//! Event ids come from one strictly increasing sequence; the schema allows one terminal event per turn. An event is
//! committed before anybody sees it, and published in id order, because both happen under the writer's lock.
//! `synchronous=FULL`: what a client saw survives a power cut too.

mod batch;
mod prune;
mod read;
mod write;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use reef_door::chat::{Attachment, EventBody, Origin, ToolCall, TurnError, TurnStatus, Usage};
use reef_model::{ChatSessionId, Clock, Timestamp, TurnId};
use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection, SqlitePool,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::sync::{broadcast, watch};

#[cfg(test)]
pub(super) use prune::Keep;
pub(super) use prune::{KEEP, KEEP_LESS};
pub(super) use read::Window;
pub(super) use write::{
    AcceptError, Accepted, CancelRequest, Draft, Fingerprint, NewForeign, NewTurn, OPEN_TURNS, Place,
};

/// Live events that a follower may be behind before it is sent to the log instead.
const LIVE_EVENTS: usize = 256;
/// Larger events are not held for live followers: they read them from the log.
const LIVE_BYTES: usize = 64 * 1024;
/// What the log may grow beyond its limit, so that the turns that run when it is full can be ended.
const RESERVE_BYTES: u64 = 64 << 20;
/// What is left of the write-ahead log after a large transaction.
const JOURNAL_BYTES: u64 = 16 << 20;
/// One file per version of the schema; the first makes it.
const SCHEMA: [&str; 2] = [include_str!("schema/0001_log.sql"), include_str!("schema/0002_origin.sql")];

/// Bytes in use: those of the file but for its free pages.
const USED_BYTES: &str = "SELECT (page_count - freelist_count) * page_size
     FROM pragma_page_count, pragma_freelist_count, pragma_page_size";

/// Why the log did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// No room on the disk.
    #[error("the instance's disk is full")]
    Full(#[source] sqlx::Error),
    /// The log has reached its limit.
    #[error("the chat log has reached its limit of {0} bytes")]
    Capped(u64),
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
    /// The gateway's name of the session.
    pub(super) key: String,
    /// Where it began, if not at the chat routes.
    pub(super) origin: Option<Origin>,
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
    /// Something committed that is not held here: too large, or by a writer that did not live to tell.
    Unheld,
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
    /// Bytes at which no more turns are taken.
    limit_bytes: u64,
}

struct Writer {
    conn: SqliteConnection,
    last_id: u64,
    /// A transaction was begun, and nobody has seen it committed or rolled back: its owner was dropped.
    is_open: bool,
}

impl Log {
    /// Opens or makes the log at `path`, which takes no more turns at `limit_bytes`.
    pub(super) async fn open(path: &Path, clock: Arc<dyn Clock>, limit_bytes: u64) -> Result<Self, LogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("journal_size_limit", JOURNAL_BYTES.to_string())
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let mut conn =
            SqliteConnection::connect_with(&options.clone().auto_vacuum(SqliteAutoVacuum::Incremental))
                .await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut conn).await?;
        for step in SCHEMA.iter().skip(usize::try_from(version).unwrap_or(0)) {
            let mut tx = conn.begin().await?;
            sqlx::raw_sql(*step).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut conn).await?;
        let most_pages = (limit_bytes + RESERVE_BYTES) / unsigned(page_bytes).max(1);
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA max_page_count = {most_pages}")))
            .execute(&mut conn)
            .await?;
        let last_id = last_id(&mut conn).await?;
        let active_turns = active_turns(&mut conn).await?;
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        let activity = Activity { active_turns, last_active_at: None };
        Ok(Self {
            writer: Arc::new(tokio::sync::Mutex::new(Writer { conn, last_id, is_open: false })),
            reader,
            followers: Mutex::default(),
            activity: watch::Sender::new(activity),
            clock,
            limit_bytes,
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

    /// Tells whether more than half of what the log may hold is used.
    pub(super) async fn is_half_full(&self) -> Result<bool, LogError> {
        let used: i64 = sqlx::query_scalar(USED_BYTES).fetch_one(&self.reader).await?;
        Ok(unsigned(used) > self.limit_bytes / 2)
    }

    fn publish(&self, session: ChatSessionId, live: Live) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = followers.get(&session)
            && sender.send(live).is_err()
        {
            followers.remove(&session);
        }
    }

    /// Has all live followers look into the log.
    fn send_to_log(&self) {
        for sender in self.followers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // Nobody may be there.
            let _ = sender.send(Live::Unheld);
        }
    }

    /// Ends the streams of a deleted session.
    fn hang_up(&self, session: ChatSessionId) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

async fn last_id(conn: &mut SqliteConnection) -> Result<u64, LogError> {
    let last_id: i64 =
        sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'")
            .fetch_one(conn)
            .await?;
    Ok(unsigned(last_id))
}

async fn active_turns(conn: &mut SqliteConnection) -> Result<u32, LogError> {
    let active: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM turns WHERE status IN ('queued', 'running')")
        .fetch_one(conn)
        .await?;
    Ok(u32::try_from(active).unwrap_or(u32::MAX))
}

/// Reads a word of the `origin` columns.
fn origin_of(word: Option<String>) -> Result<Option<Origin>, LogError> {
    Ok(word.map(|word| serde_json::from_value(word.into())).transpose()?)
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

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use reef_model::SystemClock;

    use super::*;

    /// Polls until the future is ready, or drops it where it waits for this time.
    async fn drop_at<T>(wait: u32, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut waits) = (pin!(future), 0);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if waits == wait => Poll::Ready(None),
            Poll::Pending => {
                waits += 1;
                Poll::Pending
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_anywhere_leaves_a_log_that_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("chat.db"), Arc::new(SystemClock), 1 << 30).await.unwrap();
        let accept = async || {
            let request = StoredRequest { message: "hello".into(), attachments: Vec::new() };
            let new = NewTurn { session: None, request, fingerprint: None };
            let Accepted::New(turn) = log.accept(new).await.unwrap() else { unreachable!() };
            turn
        };
        let mut live = log.follow(accept().await.session_id);
        // Where the database's thread is quick there is nothing to wait for: as often as it takes to meet every wait.
        let (mut wait, mut open, mut has_come_through) = (0, 1, false);
        for _ in 0..1_000 {
            let turn = accept().await;
            let is_done = drop_at(wait, log.request_cancel(turn.id)).await.is_some();
            while live.try_recv().is_ok() {}
            // Fails with an id that is taken.
            accept().await;
            open += 2;
            let is_cancelled = log.turn(turn.id).await.unwrap().unwrap().status == TurnStatus::Cancelled;
            let active = open - u32::from(is_cancelled);
            assert_eq!(log.activity().borrow().active_turns, active, "dropped after {wait} waits");
            let is_sent_to_log = matches!(live.try_recv(), Ok(Live::Unheld));
            assert_eq!(is_sent_to_log, is_cancelled && !is_done, "dropped after {wait} waits");
            has_come_through |= is_sent_to_log;
            log.request_cancel(turn.id).await.unwrap();
            open -= 1;
            if is_done && has_come_through {
                break;
            }
            wait = if is_done { 0 } else { wait + 1 };
        }
        assert!(has_come_through, "no commit was made whose owner was gone");
    }

    #[tokio::test]
    async fn an_older_file_is_brought_up_to_date_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut old = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(SCHEMA[0]).execute(&mut old).await.unwrap();
        let (session, turn) = (ChatSessionId::generate(), TurnId::generate());
        let at = "2026-01-01T00:00:00.000000Z";
        sqlx::query("INSERT INTO sessions (id, title, created_at, updated_at) VALUES ($1, 'old', $2, $2)")
            .bind(session)
            .bind(at)
            .execute(&mut old)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO turns (id, session_id, status, run_id, created_at) VALUES ($1, $2, 'queued', 'run', $3)",
        )
        .bind(turn)
        .bind(session)
        .bind(at)
        .execute(&mut old)
        .await
        .unwrap();
        old.close().await.unwrap();
        for _ in 0..2 {
            let log = Log::open(&path, Arc::new(SystemClock), 1 << 30).await.unwrap();
            assert_eq!(log.next_turn(session).await.unwrap().unwrap().id, turn);
            assert_eq!(log.list_sessions(None, 10).await.unwrap()[0].title, "old");
        }
    }
}
