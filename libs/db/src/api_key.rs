//! API keys.

use std::net::IpAddr;

use reef_model::{ApiKeyId, InstanceId, Role, Scopes, Timestamp, UserId};
use sqlx::types::Json;

use crate::{Page, Sql, statement::statements};

/// An API key; its secret is kept only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ApiKeyRow {
    /// The id.
    pub id: ApiKeyId,
    /// The tenant.
    pub user_id: UserId,
    /// The owner's name for it, 1–100 characters.
    pub name: String,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// How the secret begins.
    pub prefix: String,
    /// How it ends.
    pub last4: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Where; `None`: on all instances.
    pub instance_ids: Option<Json<Vec<InstanceId>>>,
    /// From where, as CIDR blocks; `None`: anywhere.
    pub ip_allow: Option<Json<Vec<String>>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used; written in batches.
    pub last_used_at: Option<Timestamp>,
    /// From where.
    pub last_used_ip: Option<String>,
    /// What its owner's account is.
    pub role: Role,
}

/// A new key; the fields are those of [`ApiKeyRow`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "said at the fields of ApiKeyRow")]
pub struct NewApiKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: String,
    pub secret_hash: [u8; 32],
    pub prefix: String,
    pub last4: String,
    pub scopes: Scopes,
    pub instance_ids: Option<Vec<InstanceId>>,
    pub ip_allow: Option<Vec<String>>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// What an owner leaves a key with: all that may change of it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "said at the fields of ApiKeyRow")]
pub struct ApiKeyChange {
    pub name: String,
    pub scopes: Scopes,
    pub instance_ids: Option<Vec<InstanceId>>,
    pub ip_allow: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
}

/// Use of a key, to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// The key.
    pub id: ApiKeyId,
    /// When.
    pub at: Timestamp,
    /// From where.
    pub ip: Option<IpAddr>,
}

macro_rules! columns {
    () => {
        "id, user_id, name, secret_hash, prefix, last4, scopes, instance_ids, ip_allow, created_at, expires_at, \
         revoked_at, last_used_at, last_used_ip, \
         (SELECT role FROM users WHERE users.id = api_keys.user_id) AS role"
    };
}

statements! {
    /// Returns the key with this hash, whoever owns it, unless revoked or its owner deleted or locked; an expired one too.
    pub Db.lookup_api_key_by_hash(secret_hash: &[u8; 32]) -> Option<ApiKeyRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM api_keys WHERE secret_hash = $1 AND revoked_at IS NULL \
             AND EXISTS (SELECT 1 FROM users WHERE users.id = api_keys.user_id AND users.deleted_at IS NULL \
             AND users.locked_at IS NULL)"
        )),
        [&secret_hash[..]];

    /// Returns a key of `tenant`, unless revoked.
    pub Db.lookup_api_key(tenant: UserId, id: ApiKeyId) -> Option<ApiKeyRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM api_keys WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL"
        )),
        [tenant, id];

    /// Returns a page of the tenant's keys that are not revoked, newest first.
    pub Db.list_api_keys(tenant: UserId, page: Page) -> Vec<ApiKeyRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM api_keys WHERE user_id = $1 AND id < $2 AND revoked_at IS NULL \
             ORDER BY id DESC LIMIT $3"
        )),
        [tenant, page.bound(), page.limit];

    /// Returns a key of `tenant`, unless revoked, and keeps other transactions from changing it until this one ends.
    pub Tx.lookup_api_key(tenant: UserId, id: ApiKeyId) -> Option<ApiKeyRow>
        = Sql::differing(
            concat!("SELECT ", columns!(), " FROM api_keys WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL"),
            concat!("SELECT ", columns!(), " FROM api_keys WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL FOR UPDATE"),
        ),
        [tenant, id];

    /// Returns how many keys of `tenant` are neither revoked nor expired.
    pub Tx.count_api_keys(tenant: UserId, now: Timestamp) -> One<(i64,)>
        = Sql::same(
            "SELECT COUNT(*) FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2)"
        ),
        [tenant, now];

    /// Inserts a key.
    pub Tx.insert_api_key(new: &NewApiKey) -> One<ApiKeyRow>
        = Sql::same(concat!(
            "INSERT INTO api_keys (id, user_id, name, secret_hash, prefix, last4, scopes, instance_ids, ip_allow, \
             created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING ",
            columns!()
        )),
        [new.id, new.user_id, &new.name, &new.secret_hash[..], &new.prefix, &new.last4, new.scopes,
         new.instance_ids.as_ref().map(Json), new.ip_allow.as_ref().map(Json), new.created_at, new.expires_at];

    /// Changes a key; `None`: not there, or revoked.
    pub Tx.update_api_key(tenant: UserId, id: ApiKeyId, to: &ApiKeyChange) -> Option<ApiKeyRow>
        = Sql::same(concat!(
            "UPDATE api_keys SET name = $3, scopes = $4, instance_ids = $5, ip_allow = $6, expires_at = $7 \
             WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING ",
            columns!()
        )),
        [tenant, id, &to.name, to.scopes, to.instance_ids.as_ref().map(Json), to.ip_allow.as_ref().map(Json),
         to.expires_at];

    /// Revokes a key; `None`: not there, or revoked before.
    pub Tx.revoke_api_key(tenant: UserId, id: ApiKeyId, now: Timestamp) -> Option<ApiKeyRow>
        = Sql::same(concat!(
            "UPDATE api_keys SET revoked_at = $3 WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING ",
            columns!()
        )),
        [tenant, id, now];

    /// Records use; never moves backwards.
    pub Tx.record_api_key_use(used: KeyUse) -> Count
        = Sql::same(
            "UPDATE api_keys SET last_used_at = $2, last_used_ip = $3 \
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)"
        ),
        [used.id, used.at, used.ip.map(|ip| ip.to_string())];

    /// Revokes every key of `tenant`.
    pub Tx.revoke_api_keys(tenant: UserId, now: Timestamp) -> Count
        = Sql::same("UPDATE api_keys SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL"),
        [tenant, now];
}
