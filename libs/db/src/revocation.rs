//! What lost its rights, as a sequence that every replica polls.

use reef_model::{Revoked, Timestamp};
use uuid::Uuid;

use crate::{DbError, Sql, Tx, Wake, statement::statements};

/// One loss of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct RevocationRow {
    /// The place in the sequence, from 1; never visible before a smaller one.
    pub seq: i64,
    /// What lost its rights.
    pub kind: Revoked,
    /// Its id, as the UUID inside.
    pub subject_id: Uuid,
    /// When.
    pub revoked_at: Timestamp,
}

statements! {
    /// Returns what was revoked after `after_seq`, in order, at most `limit`.
    pub Db.list_revocations(after_seq: i64, limit: i64) -> Vec<RevocationRow>
        = Sql::same(
            "SELECT seq, kind, subject_id, revoked_at FROM revocations WHERE seq > $1 ORDER BY seq LIMIT $2"
        ),
        [after_seq, limit];

    /// Returns the last place in the sequence: where a replica that starts with empty caches begins to read.
    pub Db.last_revocation() -> One<(i64,)>
        = Sql::same("SELECT value FROM counters WHERE name = 'revocations'"),
        [];

    // The row lock is held until the commit, so a larger number is never visible before a smaller one.
    pub(crate) Tx.next_revocation() -> One<(i64,)>
        = Sql::same("UPDATE counters SET value = value + 1 WHERE name = 'revocations' RETURNING value"),
        [];

    pub(crate) Tx.append_revocation(seq: i64, kind: Revoked, subject: Uuid, at: Timestamp) -> Count
        = Sql::same("INSERT INTO revocations (seq, kind, subject_id, revoked_at) VALUES ($1, $2, $3, $4)"),
        [seq, kind, subject, at];

    /// Forgets what was revoked before `before`, once no replica can be that far behind.
    pub Tx.reap_revocations(before: Timestamp) -> Count
        = Sql::same("DELETE FROM revocations WHERE revoked_at < $1"),
        [before];
}

impl Tx {
    /// Appends to the sequence and wakes every replica. Returns the place.
    ///
    /// Serialises with other revocations until the commit, so it comes late in a transaction.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn insert_revocation(
        &mut self,
        kind: Revoked,
        subject: Uuid,
        at: Timestamp,
    ) -> Result<i64, DbError> {
        let (seq,) = self.next_revocation().await?;
        self.append_revocation(seq, kind, subject, at).await?;
        self.notify(Wake::Revocations).await?;
        Ok(seq)
    }
}
