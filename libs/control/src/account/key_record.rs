//! What authentication knows of a key: made once, cached, and then decided on without a query.

use std::net::IpAddr;

use reef_auth::{Caller, Credential, IpAllow, api_key::hashes_match};
use reef_db::{ApiKeyRow, Json};
use reef_model::{ApiKeyId, Timestamp, UserId};

use super::{Accounts, Grant};
use crate::ControlError;

/// A key as authentication needs it. To be cached for at most a minute, and dropped when a revocation names it.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    caller: Caller,
    expires_at: Option<Timestamp>,
    ip_allow: Option<IpAllow>,
}

/// Why a known key is refused; a caller is told only that the credential is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// It may not be used from there.
    #[error("the key may not be used from this address")]
    Address,
}

impl KeyRecord {
    fn new(row: &ApiKeyRow) -> Self {
        // An unreadable block is a damaged row: it allows nothing rather than everything.
        let ip_allow = row
            .ip_allow
            .as_ref()
            .map(|Json(texts)| IpAllow::parse(texts).unwrap_or_else(|_| IpAllow::nowhere()));
        Self {
            caller: Caller {
                tenant: row.user_id,
                role: row.role,
                credential: Credential::Key(row.id),
                scopes: row.scopes,
                instances: row.instance_ids.as_ref().map(|Json(ids)| ids.as_slice().into()),
            },
            expires_at: row.expires_at,
            ip_allow,
        }
    }

    /// Returns who calls with this key; ask [`Self::admits`] first.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns when the key ends: what it opened ends then too.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Returns what may be given with this key.
    pub fn grant(&self) -> Grant {
        Grant { scopes: self.caller.scopes, expires_at: self.expires_at, ip_allow: self.ip_allow.clone() }
    }

    /// Decides whether the key may be used now from `ip`. Allocates nothing.
    ///
    /// # Errors
    /// [`KeyRefused`], each variant with its cause.
    pub fn admits(&self, ip: IpAddr, now: Timestamp) -> Result<(), KeyRefused> {
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyRefused::Expired);
        }
        if self.ip_allow.as_ref().is_some_and(|allow| !allow.contains(ip)) {
            return Err(KeyRefused::Address);
        }
        Ok(())
    }
}

impl Accounts {
    /// Returns the key with this hash (of [`reef_auth::api_key::hash_presented`]); `None`: unknown or revoked. One
    /// query.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn lookup_key(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, ControlError> {
        let row = self.db.lookup_api_key_by_hash(hash).await?;
        Ok(row.filter(|row| hashes_match(&row.secret_hash, hash)).map(|row| KeyRecord::new(&row)))
    }

    /// Returns the tenant's key with this id; `None`: unknown or revoked. One query.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn lookup_key_by_id(
        &self,
        tenant: UserId,
        id: ApiKeyId,
    ) -> Result<Option<KeyRecord>, ControlError> {
        Ok(self.db.lookup_api_key(tenant, id).await?.map(|row| KeyRecord::new(&row)))
    }

    /// Tells whether a credential still holds: to decide what becomes of what was opened with it.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn is_live(&self, tenant: UserId, credential: Credential) -> Result<bool, ControlError> {
        let now = self.now();
        if self.db.lookup_user(tenant).await?.is_none_or(|user| user.locked_at.is_some()) {
            return Ok(false);
        }
        Ok(match credential {
            Credential::Key(id) => self
                .db
                .lookup_api_key(tenant, id)
                .await?
                .is_some_and(|row| row.expires_at.is_none_or(|end| end > now)),
            Credential::Session(id) => self.db.lookup_session(tenant, id, now).await?.is_some(),
        })
    }
}
