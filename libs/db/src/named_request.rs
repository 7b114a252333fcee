//! Requests that their callers named (`Idempotency-Key`), and the answers that repetitions get.

use reef_model::{Timestamp, UserId};
use uuid::Uuid;

use crate::{DbError, Sql, Tx, statement::statements};

/// A named request.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct NamedRequestRow {
    /// SHA-256 of what was asked for.
    pub fingerprint: Vec<u8>,
    /// The answer's status; `None`: it still runs.
    pub status: Option<i64>,
    /// The answer's `Location`.
    pub location: Option<String>,
    /// The answer's `ETag`.
    pub etag: Option<String>,
    /// The answer's body, JSON or empty, without what is shown once.
    pub body: Option<Vec<u8>>,
}

/// The claim to run a named request.
#[derive(Debug, Clone)]
pub struct RequestClaim {
    /// With what the caller proved who they are; names are each credential's own.
    pub credential_id: Uuid,
    /// The name.
    pub name: String,
    /// Whose credential.
    pub user_id: UserId,
    /// SHA-256 of what is asked for.
    pub fingerprint: [u8; 32],
    /// Tells this run from another one of the same name.
    pub claim: Uuid,
    /// Now.
    pub claimed_at: Timestamp,
    /// Until when the answer is kept.
    pub expires_at: Timestamp,
}

/// The answer to a named request.
#[derive(Debug, Clone)]
pub struct RequestAnswer {
    /// A successful status.
    pub status: i64,
    /// `Location`.
    pub location: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

statements! {
    pub(crate) Tx.take_name(new: &RequestClaim, stale_before: Timestamp) -> Option<(Uuid,)>
        = Sql::same(
            "INSERT INTO named_requests (credential_id, name, user_id, fingerprint, claim, claimed_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id, name) DO UPDATE \
             SET fingerprint = excluded.fingerprint, claim = excluded.claim, claimed_at = excluded.claimed_at, \
             expires_at = excluded.expires_at, status = NULL, location = NULL, etag = NULL, body = NULL \
             WHERE named_requests.expires_at <= excluded.claimed_at \
             OR (named_requests.status IS NULL AND named_requests.claimed_at < $8) RETURNING claim"
        ),
        [
            new.credential_id, &new.name, new.user_id, &new.fingerprint[..], new.claim, new.claimed_at,
            new.expires_at, stale_before
        ];

    pub(crate) Tx.read_named_request(credential: Uuid, name: &str) -> One<NamedRequestRow>
        = Sql::same(
            "SELECT fingerprint, status, location, etag, body FROM named_requests WHERE credential_id = $1 AND name = $2"
        ),
        [credential, name];

    /// Shows that a claimed request still runs.
    pub Tx.renew_request(new: &RequestClaim, now: Timestamp) -> Count
        = Sql::same(
            "UPDATE named_requests SET claimed_at = $4 WHERE credential_id = $1 AND name = $2 AND claim = $3 AND status IS NULL"
        ),
        [new.credential_id, &new.name, new.claim, now];

    /// Keeps the answer to a claimed request.
    pub Tx.answer_request(new: &RequestClaim, answer: &RequestAnswer) -> Count
        = Sql::same(
            "UPDATE named_requests SET status = $4, location = $5, etag = $6, body = $7 \
             WHERE credential_id = $1 AND name = $2 AND claim = $3"
        ),
        [
            new.credential_id, &new.name, new.claim, answer.status, answer.location.as_deref(), answer.etag.as_deref(),
            &answer.body[..]
        ];

    /// Forgets a claimed request, which may then be made again under its name.
    pub Tx.release_request(new: &RequestClaim) -> Count
        = Sql::same("DELETE FROM named_requests WHERE credential_id = $1 AND name = $2 AND claim = $3"),
        [new.credential_id, &new.name, new.claim];

    /// Forgets what is no longer kept.
    pub Tx.reap_named_requests(now: Timestamp) -> Count
        = Sql::same("DELETE FROM named_requests WHERE expires_at <= $1"),
        [now];
}

impl Tx {
    /// Claims a request; where its name is in use, returns what it was used for. A run whose claim was not renewed since
    /// `stale_before` is taken for dead.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn claim_request(
        &mut self,
        new: &RequestClaim,
        stale_before: Timestamp,
    ) -> Result<Option<NamedRequestRow>, DbError> {
        match self.take_name(new, stale_before).await? {
            Some(_) => Ok(None),
            None => self.read_named_request(new.credential_id, &new.name).await.map(Some),
        }
    }
}
