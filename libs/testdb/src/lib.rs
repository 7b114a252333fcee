//! A fresh, empty database per test, on SQLite and on PostgreSQL.
//!
//! SQLite is a file in a temporary directory. PostgreSQL is one server per machine and user, started from Debian's
//! package when the first test asks for it and shared by all test processes, with a database per test; see [`server`]
//! for how it ends. This crate knows URLs only, not `reef-db`, so that every crate's tests may use it.
//!
//! ```text
//! reef_testdb::both_engines! {
//!     async fn a_row_comes_back(database: TestDatabase) {
//!         let db = Db::connect(database.url(), 4).await.unwrap();
//!         …
//!     }
//! }
//! ```

pub mod server;

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection, PgConnection};

/// A database that goes away when dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Sqlite { _directory: tempfile::TempDir },
    Postgres { name: String, admin_url: String },
}

impl TestDatabase {
    /// Makes an empty SQLite database.
    ///
    /// # Panics
    /// Where there is no temporary directory.
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite://{}", directory.path().join("reef.db").display());
        Self { url, kept: Kept::Sqlite { _directory: directory } }
    }

    /// Makes an empty PostgreSQL database, in a server that is started if none runs.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed or does not start; the message says what to do.
    pub async fn postgres() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(server::shared).await.expect("the PostgreSQL server starts");
        let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let admin_url = server.url("postgres");
        run(&admin_url, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .expect("an old one goes");
        run(&admin_url, format!("CREATE DATABASE {name}")).await.expect("a database is made");
        Self { url: server.url(&name), kept: Kept::Postgres { name, admin_url } }
    }

    /// Returns where it is, as `DATABASE_URL` has it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self.kept, Kept::Postgres { .. })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Kept::Postgres { name, admin_url } = &self.kept else { return };
        let (sql, admin_url) = (format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), admin_url.clone());
        // Best effort, on a thread of its own because a test's runtime may be winding down: the server's end
        // removes what is left.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(&admin_url, sql)).map_err(std::io::Error::other)
        })
        .join();
    }
}

async fn run(url: &str, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await
}

/// Declares tests that each run once on SQLite and once on PostgreSQL, as `name::sqlite` and `name::postgres`.
#[macro_export]
macro_rules! both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident: TestDatabase) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($database: $crate::TestDatabase) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::TestDatabase::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::TestDatabase::postgres().await).await;
            }
        }
    )*};
}
