//! Browser sessions.

use reef_model::{Role, SessionId, Timestamp, UserId};
use sqlx::types::Json;

use crate::{Page, Sql, statement::statements};

/// A session as its owner sees it, with what the session layer keeps in it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct SessionRow {
    /// The id; not the cookie's value.
    pub id: SessionId,
    /// Who is signed in.
    pub user_id: Option<UserId>,
    /// The session layer's JSON object.
    pub data: Json<serde_json::Value>,
    /// The client's address at sign-in.
    pub ip: Option<String>,
    /// The browser at sign-in.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used; written in batches.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A session as the session layer saves it.
#[derive(Clone)]
pub struct SaveSession {
    /// The id, kept by a later save.
    pub id: SessionId,
    /// SHA-256 of the cookie's value: what a session is found by.
    pub token_hash: [u8; 32],
    /// Who is signed in.
    pub user_id: Option<UserId>,
    /// The session layer's JSON object.
    pub data: serde_json::Value,
    /// The client's address at sign-in.
    pub ip: Option<String>,
    /// The browser at sign-in.
    pub user_agent: Option<String>,
    /// Now.
    pub now: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Use of a session, to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionUse {
    /// The session.
    pub id: SessionId,
    /// When.
    pub at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, user_id, data, ip, user_agent, created_at, last_seen_at, expires_at"
    };
}

statements! {
    /// Returns the unexpired session with this hash.
    pub Db.lookup_session_by_token(token_hash: &[u8; 32], now: Timestamp) -> Option<SessionRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM sessions WHERE token_hash = $1 AND expires_at > $2")),
        [&token_hash[..], now];

    /// Returns an unexpired session of `tenant`.
    pub Db.lookup_session(tenant: UserId, id: SessionId, now: Timestamp) -> Option<SessionRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM sessions WHERE user_id = $1 AND id = $2 AND expires_at > $3"
        )),
        [tenant, id, now];

    /// Returns the role of the account that an unexpired session of `tenant` is signed in to, and when the session ends;
    /// `None` also where the account is deleted.
    pub Db.lookup_signed_in(tenant: UserId, id: SessionId, now: Timestamp) -> Option<(Role, Timestamp)>
        = Sql::same(
            "SELECT users.role, sessions.expires_at FROM sessions JOIN users ON users.id = sessions.user_id \
             WHERE sessions.user_id = $1 AND sessions.id = $2 AND sessions.expires_at > $3 AND users.deleted_at IS NULL \
             AND users.locked_at IS NULL"
        ),
        [tenant, id, now];

    /// Returns a page of the tenant's unexpired sessions, newest first.
    pub Db.list_sessions(tenant: UserId, now: Timestamp, page: Page) -> Vec<SessionRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM sessions WHERE user_id = $1 AND expires_at > $2 AND id < $3 \
             ORDER BY id DESC LIMIT $4"
        )),
        [tenant, now, page.bound(), page.limit];

    /// Inserts a session unless its hash is there already; the count tells.
    pub Tx.insert_session(new: &SaveSession) -> Count
        = Sql::same(
            "INSERT INTO sessions (id, token_hash, user_id, data, ip, user_agent, created_at, last_seen_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT (token_hash) DO NOTHING"
        ),
        [new.id, &new.token_hash[..], new.user_id, Json(&new.data), new.ip.as_deref(), new.user_agent.as_deref(), new.now,
         new.expires_at];

    /// Saves a session that is there; a count of 0 says that it was ended meanwhile, and it stays so.
    pub Tx.update_session(save: &SaveSession) -> Count
        = Sql::same(
            "UPDATE sessions SET user_id = $2, data = $3, ip = $4, user_agent = $5, last_seen_at = $6, expires_at = $7 \
             WHERE token_hash = $1"
        ),
        [&save.token_hash[..], save.user_id, Json(&save.data), save.ip.as_deref(), save.user_agent.as_deref(), save.now,
         save.expires_at];

    /// Ends the session with this hash; returns it.
    pub Tx.delete_session_by_token(token_hash: &[u8; 32]) -> Option<SessionRow>
        = Sql::same(concat!("DELETE FROM sessions WHERE token_hash = $1 RETURNING ", columns!())),
        [&token_hash[..]];

    /// Ends a session of `tenant`; returns it.
    pub Tx.delete_session(tenant: UserId, id: SessionId) -> Option<SessionRow>
        = Sql::same(concat!("DELETE FROM sessions WHERE user_id = $1 AND id = $2 RETURNING ", columns!())),
        [tenant, id];

    /// Ends every session of `tenant` but one; returns their ids.
    pub Tx.delete_other_sessions(tenant: UserId, keep: Option<SessionId>) -> Vec<(SessionId,)>
        = Sql::same("DELETE FROM sessions WHERE user_id = $1 AND id <> $2 RETURNING id"),
        [tenant, keep.map_or(uuid::Uuid::nil(), SessionId::as_uuid)];

    /// Records use; never moves backwards.
    pub Tx.record_session_use(used: SessionUse) -> Count
        = Sql::same("UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2"),
        [used.id, used.at];

    /// Removes sessions that have ended.
    pub Tx.reap_sessions(now: Timestamp) -> Count
        = Sql::same("DELETE FROM sessions WHERE expires_at <= $1"),
        [now];
}
