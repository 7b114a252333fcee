//! Tokens that were mailed, and the places from which accounts were signed in to.

use reef_model::{Timestamp, TokenPurpose, UserId};

use crate::{DbError, Sql, Tx, statement::statements};

/// A token that was mailed; itself it is kept only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AccountTokenRow {
    /// Whose account it is for.
    pub user_id: UserId,
    /// The address that it was mailed to.
    pub email: String,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct NewAccountToken {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Whose account it is for.
    pub user_id: UserId,
    /// What it is good for.
    pub purpose: TokenPurpose,
    /// The address that it is mailed to.
    pub email: String,
    /// Now.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

statements! {
    /// Returns the address that the newest verification of `tenant` is for.
    pub Db.lookup_verification(tenant: UserId, now: Timestamp) -> Option<AccountTokenRow>
        = Sql::same(
            "SELECT user_id, email FROM account_tokens WHERE user_id = $1 AND purpose = 'verify_email' \
             AND expires_at > $2 ORDER BY created_at DESC LIMIT 1"
        ),
        [tenant, now];

    /// Inserts a token.
    pub Tx.insert_account_token(new: &NewAccountToken) -> Count
        = Sql::same(
            "INSERT INTO account_tokens (token_hash, user_id, purpose, email, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)"
        ),
        [&new.token_hash[..], new.user_id, new.purpose, &new.email, new.created_at, new.expires_at];

    /// Uses a token up; `None`: there is none, or it has ended.
    pub Tx.take_account_token(token_hash: &[u8; 32], purpose: TokenPurpose, now: Timestamp) -> Option<AccountTokenRow>
        = Sql::same(
            "DELETE FROM account_tokens WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3 RETURNING user_id, email"
        ),
        [&token_hash[..], purpose, now];

    /// Makes all tokens of `tenant` for a purpose useless.
    pub Tx.delete_account_tokens(tenant: UserId, purpose: TokenPurpose) -> Count
        = Sql::same("DELETE FROM account_tokens WHERE user_id = $1 AND purpose = $2"),
        [tenant, purpose];

    /// Removes tokens that have ended.
    pub Tx.reap_account_tokens(now: Timestamp) -> Count
        = Sql::same("DELETE FROM account_tokens WHERE expires_at <= $1"),
        [now];

    pub(crate) Tx.see_place(tenant: UserId, place_hash: &[u8; 32], now: Timestamp) -> Count
        = Sql::same("UPDATE sign_in_places SET last_seen_at = $3 WHERE user_id = $1 AND place_hash = $2"),
        [tenant, &place_hash[..], now];

    pub(crate) Tx.append_place(tenant: UserId, place_hash: &[u8; 32], now: Timestamp) -> Count
        = Sql::same(
            "INSERT INTO sign_in_places (user_id, place_hash, last_seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (user_id, place_hash) DO NOTHING"
        ),
        [tenant, &place_hash[..], now];

    pub(crate) Tx.count_places(tenant: UserId) -> One<(i64,)>
        = Sql::same("SELECT COUNT(*) FROM sign_in_places WHERE user_id = $1"),
        [tenant];

    /// Forgets places from which nobody signed in since `before`.
    pub Tx.reap_places(before: Timestamp) -> Count
        = Sql::same("DELETE FROM sign_in_places WHERE last_seen_at < $1"),
        [before];
}

impl Tx {
    /// Notes a sign-in of `tenant` from a place. Tells whether it is a new one beside others that are known.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn note_place(
        &mut self,
        tenant: UserId,
        place_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<bool, DbError> {
        if self.see_place(tenant, place_hash, now).await? > 0 {
            return Ok(false);
        }
        let is_new = self.append_place(tenant, place_hash, now).await? > 0;
        Ok(is_new && self.count_places(tenant).await?.0 > 1)
    }
}
