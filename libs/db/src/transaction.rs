//! A write transaction.

use std::sync::Arc;

use sqlx::{Postgres, Sqlite, Transaction};

use crate::{DbError, Sql, Wake, statement::statements, wake::Wakes};

/// A write transaction: undone when dropped, kept by [`Tx::commit`].
#[must_use = "dropped without `commit`, it undoes its work"]
#[derive(Debug)]
pub struct Tx {
    connection: Connection,
    wakes: Arc<Wakes>,
    pending: Vec<Wake>,
}

#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    pub(crate) fn new(connection: Connection, wakes: Arc<Wakes>) -> Self {
        Self { connection, wakes, pending: Vec::new() }
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Makes the work permanent, then sends the wakes.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] where the connection broke: whether the work was kept is then not known.
    ///
    /// # Cancel safety
    /// The work may or may not have been kept.
    pub async fn commit(self) -> Result<(), DbError> {
        match self.connection {
            Connection::Sqlite(tx) => tx.commit().await?,
            Connection::Postgres(tx) => tx.commit().await?,
        }
        self.pending.into_iter().for_each(|wake| self.wakes.send(wake));
        Ok(())
    }

    /// Sends `wake` after the commit, to every replica that shares a PostgreSQL.
    ///
    /// # Errors
    /// [`DbError`] where the statement fails.
    pub async fn notify(&mut self, wake: Wake) -> Result<(), DbError> {
        if !self.pending.contains(&wake) {
            self.pending.push(wake);
            if let Connection::Postgres(_) = self.connection {
                self.notify_replicas(wake.channel()).await?;
            }
        }
        Ok(())
    }
}

statements! {
    pub(crate) Tx.notify_replicas(channel: &str) -> Count
        = Sql::differing("SELECT $1", "SELECT pg_notify($1, '')"), [channel];
}
