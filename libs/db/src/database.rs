//! The handle: pools per engine, migrations, and how a transaction begins.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    ConnectError, DbError, Tx, Wake,
    transaction::Connection,
    wake::{self, Wakes},
};

/// SQLite takes one writer at a time, so a second connection would only wait for the first.
const SQLITE_READERS: u32 = 8;
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this after a checkpoint; constant readers made it grow to 100 MB.
const SQLITE_JOURNAL_LIMIT_BYTES: &str = "67108864";
/// How often the log is written back and cut: under constant readers no commit finds a moment to do so.
const SQLITE_CHECKPOINT_PERIOD: Duration = Duration::from_secs(300);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The database. Clones are the same database.
#[derive(Debug, Clone)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    wakes: Arc<Wakes>,
    background: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.background.abort();
    }
}

#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres(PgPool),
}

impl Db {
    /// Opens the database at `url`: `sqlite://PATH` (made if missing, with its directory, for this user only) or
    /// `postgres://…` (at most `max_connections` at once, and one more for wakes).
    ///
    /// # Errors
    /// [`ConnectError`], each variant with its cause.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self, ConnectError> {
        if url.starts_with("sqlite:") {
            Self::connect_sqlite(url).await
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Self::connect_postgres(url, max_connections).await
        } else {
            Err(ConnectError::Scheme)
        }
    }

    async fn connect_sqlite(url: &str) -> Result<Self, ConnectError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(ConnectError::Url)?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(SQLITE_BUSY_TIMEOUT)
            .pragma("journal_size_limit", SQLITE_JOURNAL_LIMIT_BYTES);
        let path = options.get_filename();
        make_private_file(path).map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
        // The writer comes first: it turns the write-ahead log on, which a reader cannot.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await
            .map_err(ConnectError::Connect)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        let background = tokio::spawn(checkpoint(writer.clone())).abort_handle();
        let engine = Engine::Sqlite { writer, readers };
        Ok(Self(Arc::new(Inner { engine, wakes: Wakes::new(), background })))
    }

    async fn connect_postgres(url: &str, max_connections: u32) -> Result<Self, ConnectError> {
        let options = PgConnectOptions::from_str(url).map_err(ConnectError::Url)?.application_name("reef");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections.saturating_add(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(ConnectError::Connect)?;
        let wakes = Wakes::new();
        let background = tokio::spawn(wake::listen(pool.clone(), wakes.clone())).abort_handle();
        Ok(Self(Arc::new(Inner { engine: Engine::Postgres(pool), wakes, background })))
    }

    /// Brings the schema up to date. Migrations that this version does not know are left alone: a newer server may
    /// run beside it during a deployment.
    ///
    /// # Errors
    /// [`ConnectError::Migrate`] with its cause.
    pub async fn migrate(&self) -> Result<(), ConnectError> {
        match self.engine() {
            Engine::Sqlite { writer, .. } => migrator(&SQLITE_MIGRATIONS).run(writer).await,
            Engine::Postgres(pool) => migrator(&POSTGRES_MIGRATIONS).run(pool).await,
        }
        .map_err(ConnectError::Migrate)
    }

    /// Begins a write transaction; it is undone unless [`Tx::commit`] is called. Never hold one across network I/O:
    /// on SQLite it keeps every other writer out.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] where none could be had in time.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn write(&self) -> Result<Tx, DbError> {
        let connection = match self.engine() {
            // A deferred transaction would fail, not wait, when its first write meets another writer.
            Engine::Sqlite { writer, .. } => Connection::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Engine::Postgres(pool) => Connection::Postgres(with_retry(pool, || pool.begin()).await?),
        };
        Ok(Tx::new(connection, self.0.wakes.clone()))
    }

    /// Returns a receiver that changes whenever `wake` may have happened from now on, here or, on PostgreSQL, in
    /// another replica. Subscribe before looking, so that nothing falls between.
    pub fn wakes(&self, wake: Wake) -> watch::Receiver<u64> {
        self.0.wakes.subscribe(wake)
    }

    /// Tells whether the database answers.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] mostly.
    pub async fn ping(&self) -> Result<(), DbError> {
        match self.engine() {
            Engine::Sqlite { readers, .. } => sqlx::query("SELECT 1").execute(readers).await.map(drop)?,
            Engine::Postgres(pool) => {
                with_retry(pool, || sqlx::query("SELECT 1").execute(pool)).await.map(drop)?;
            }
        }
        Ok(())
    }

    /// Closes every connection, after what is running on them.
    pub async fn close(&self) {
        match self.engine() {
            Engine::Sqlite { writer, readers } => {
                // The writer last: it is then the one that checkpoints and removes the write-ahead log.
                readers.close().await;
                writer.close().await;
            }
            Engine::Postgres(pool) => pool.close().await,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }
}

/// Runs `attempt` again where it met a connection that the server had closed meanwhile, at most once per connection
/// that was idle: they are not tested before use, and a restarted server leaves all of them dead.
pub(crate) async fn with_retry<T, F>(pool: &PgPool, attempt: impl Fn() -> F + Send) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>> + Send,
{
    // The pool's count of idle ones is not exact while others take and return them: it may even wrap below zero.
    let most = pool.options().get_max_connections() as usize;
    let mut retries = pool.num_idle().min(most) + 1;
    loop {
        match attempt().await {
            Err(error) if retries > 0 && is_dead_connection(&error) => retries -= 1,
            result => return result,
        }
    }
}

fn is_dead_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // What the server said before it closed the connection: admin_shutdown, crash_shutdown.
        sqlx::Error::Database(inner) => matches!(inner.code().as_deref(), Some("57P01" | "57P02")),
        _ => false,
    }
}

fn migrator(embedded: &'static Migrator) -> Migrator {
    let mut migrator = Migrator::with_migrations(embedded.iter().cloned().collect());
    migrator.set_ignore_missing(true);
    migrator
}

async fn checkpoint(writer: SqlitePool) {
    let mut period = tokio::time::interval(SQLITE_CHECKPOINT_PERIOD);
    period.tick().await;
    while !writer.is_closed() {
        period.tick().await;
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&writer).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write the database's log back");
        }
    }
}

/// Makes the file with mode 0600 before SQLite would with the process's umask.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}
