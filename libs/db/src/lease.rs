//! Leases: who may do a piece of work now, with a fencing token.

use std::time::Duration;

use reef_model::Timestamp;

use crate::{DbError, Sql, Tx, statement::statements};

statements! {
    pub(crate) Tx.take_lease(name: &str, owner: &str, now: Timestamp, expires_at: Timestamp) -> Option<(i64,)>
        = Sql::same(
            "INSERT INTO leases (name, owner, epoch, expires_at) VALUES ($1, $2, 1, $4) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, \
             epoch = CASE WHEN leases.owner = excluded.owner AND leases.expires_at > $3 THEN leases.epoch \
             ELSE leases.epoch + 1 END \
             WHERE leases.owner = excluded.owner OR leases.expires_at <= $3 RETURNING epoch"
        ),
        [name, owner, now, expires_at];

    /// Ends a lease that `owner` holds; others may claim it at once.
    pub Tx.release_lease(name: &str, owner: &str, now: Timestamp) -> Count
        = Sql::same("UPDATE leases SET expires_at = $3 WHERE name = $1 AND owner = $2 AND expires_at > $3"),
        [name, owner, now];

    /// Tells whether `owner` still holds the lease with this epoch, and keeps it from being claimed until the
    /// transaction ends.
    pub Tx.check_lease(name: &str, owner: &str, epoch: i64, now: Timestamp) -> Option<(i64,)>
        = Sql::differing(
            "SELECT epoch FROM leases WHERE name = $1 AND owner = $2 AND epoch = $3 AND expires_at > $4",
            "SELECT epoch FROM leases WHERE name = $1 AND owner = $2 AND epoch = $3 AND expires_at > $4 FOR UPDATE",
        ),
        [name, owner, epoch, now];

    /// Removes leases that ended before `before`. Their epochs begin anew, so only those that no one can still act
    /// on may go.
    pub Tx.reap_leases(before: Timestamp) -> Count
        = Sql::same("DELETE FROM leases WHERE expires_at < $1"),
        [before];
}

impl Tx {
    /// Claims or renews the lease `name` for `ttl` from `now`. Returns its epoch, which grows whenever the lease was
    /// lost or given up in between; `None`: another owner holds it.
    ///
    /// # Errors
    /// [`DbError`] where the statement fails.
    pub async fn claim_lease(
        &mut self,
        name: &str,
        owner: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Option<i64>, DbError> {
        Ok(self.take_lease(name, owner, now, now + ttl).await?.map(|(epoch,)| epoch))
    }
}
