//! API keys: mint, change, rotate, revoke.

use std::time::Duration;

use reef_auth::{ApiKeySecret, IpAllow};
use reef_db::{ApiKeyChange, ApiKeyRow, Json, NewApiKey, Tx};
use reef_model::{ApiKeyId, InstanceId, Revoked, Scopes, Timestamp, UserId};

use super::{Accounts, invalid, valid_name};
use crate::{Actor, ControlError};

const MAX_KEYS: i64 = 200;
const MAX_INSTANCES: usize = 100;
const MAX_BLOCKS: usize = 100;
const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a new key is made of.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// The owner's name for it, 1–100 characters.
    pub name: String,
    /// What it may do; none: everything but `account` that its maker may do.
    pub scopes: Option<Scopes>,
    /// Where; none: on all instances.
    pub instance_ids: Option<Vec<InstanceId>>,
    /// From where, as addresses or CIDR blocks; none: anywhere.
    pub ip_allow: Option<Vec<String>>,
    /// When it ends; none: when it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// What to change of a key; `None` leaves it, `Some(None)` takes the limit away.
#[derive(Debug, Clone, Default)]
pub struct PatchKey {
    /// The name.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Option<Scopes>,
    /// Where.
    pub instance_ids: Option<Option<Vec<InstanceId>>>,
    /// From where.
    pub ip_allow: Option<Option<Vec<String>>>,
    /// When it ends.
    pub expires_at: Option<Option<Timestamp>>,
}

/// What the maker of a key may give: a key is never more than its maker.
#[derive(Debug, Clone)]
pub struct Grant {
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) ip_allow: Option<IpAllow>,
}

impl From<Scopes> for Grant {
    /// A person's, which has no end and comes from anywhere.
    fn from(scopes: Scopes) -> Self {
        Self { scopes, expires_at: None, ip_allow: None }
    }
}

impl Grant {
    fn check(&self, rights: &ApiKeyChange) -> Result<(), ControlError> {
        valid_scopes(rights.scopes, self.scopes)?;
        if self.expires_at.is_some_and(|own| rights.expires_at.is_none_or(|end| end > own)) {
            return Err(invalid("expires_at", "you cannot give more time than your own key has"));
        }
        let is_within = |own: &IpAllow| {
            let texts = rights.ip_allow.as_deref();
            texts.is_some_and(|texts| IpAllow::parse(texts).is_ok_and(|blocks| own.covers(&blocks)))
        };
        if !self.ip_allow.as_ref().is_none_or(is_within) {
            return Err(invalid("ip_allow", "you cannot give more addresses than your own key has"));
        }
        Ok(())
    }
}

/// A rotation: another secret for the same rights.
#[derive(Debug)]
pub struct Rotated {
    /// The key until now, with its new end; `None`: it ended at once.
    pub old: Option<ApiKeyRow>,
    /// The key from now on.
    pub new: ApiKeyRow,
    /// Its secret, shown once.
    pub secret: ApiKeySecret,
}

impl Accounts {
    /// Makes a key that may at most do what its maker may (`may_give`), for as long and from where it may. The secret is
    /// shown once.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field, [`ControlError::Conflict`] where the account has too many keys.
    pub async fn mint_key(
        &self,
        actor: &Actor,
        may_give: impl Into<Grant>,
        wish: NewKey,
    ) -> Result<(ApiKeyRow, ApiKeySecret), ControlError> {
        let (now, may_give): (_, Grant) = (self.now(), may_give.into());
        let granted =
            || Scopes::key_default().iter().filter(|scope| may_give.scopes.contains(*scope)).collect();
        let scopes = wish.scopes.unwrap_or_else(granted);
        let ip_allow = wish.ip_allow.or_else(|| may_give.ip_allow.as_ref().map(IpAllow::to_texts));
        let rights = ApiKeyChange {
            name: valid_name(&wish.name)?,
            scopes: valid_scopes(scopes, may_give.scopes)?,
            instance_ids: self.valid_instances(actor.tenant, wish.instance_ids).await?,
            ip_allow: valid_blocks(ip_allow)?,
            expires_at: valid_end(wish.expires_at.or(may_give.expires_at), now)?,
        };
        may_give.check(&rights)?;
        let mut tx = self.db.write().await?;
        if tx.count_api_keys(actor.tenant, now).await?.0 >= MAX_KEYS {
            return Err(ControlError::Conflict(format!(
                "an account has at most {MAX_KEYS} keys; revoke those that are not used"
            )));
        }
        let minted = insert(&mut tx, actor.tenant, rights, now).await?;
        tx.insert_audit(&actor.entry("key.create", minted.0.id, now)).await?;
        tx.commit().await?;
        Ok(minted)
    }

    /// Changes a key's name, rights or limits; they hold on every replica within a second.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`] by field.
    pub async fn patch_key(
        &self,
        actor: &Actor,
        may_give: impl Into<Grant>,
        id: ApiKeyId,
        patch: PatchKey,
    ) -> Result<ApiKeyRow, ControlError> {
        let (now, may_give): (_, Grant) = (self.now(), may_give.into());
        let is_name_only = patch.scopes.is_none()
            && patch.instance_ids.is_none()
            && patch.ip_allow.is_none()
            && patch.expires_at.is_none();
        let name = patch.name.as_deref().map(valid_name).transpose()?;
        let scopes = patch.scopes.map(|scopes| valid_scopes(scopes, may_give.scopes)).transpose()?;
        let instance_ids = match patch.instance_ids {
            Some(ids) => Some(self.valid_instances(actor.tenant, ids).await?),
            None => None,
        };
        let ip_allow = patch.ip_allow.map(valid_blocks).transpose()?;
        let expires_at = patch.expires_at.map(|end| valid_end(end, now)).transpose()?;

        let mut tx = self.db.write().await?;
        let row = tx.lookup_api_key(actor.tenant, id).await?.ok_or(ControlError::NotFound)?;
        let to = ApiKeyChange {
            name: name.unwrap_or(row.name),
            scopes: scopes.unwrap_or(row.scopes),
            instance_ids: instance_ids.unwrap_or(row.instance_ids.map(|Json(ids)| ids)),
            ip_allow: ip_allow.unwrap_or(row.ip_allow.map(|Json(blocks)| blocks)),
            expires_at: expires_at.unwrap_or(row.expires_at),
        };
        // Whoever changes a key's limits gives its rights anew.
        if !is_name_only {
            may_give.check(&to)?;
        }
        let row = tx.update_api_key(actor.tenant, id, &to).await?.ok_or(ControlError::NotFound)?;
        tx.insert_audit(&actor.entry("key.update", id, now)).await?;
        if !is_name_only {
            tx.insert_revocation(Revoked::Key, id.as_uuid(), now).await?;
        }
        tx.commit().await?;
        Ok(row)
    }

    /// Makes a new key with the rights of an old one, which ends after `overlap` (at most a week; zero: at once).
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`] by field.
    pub async fn rotate_key(
        &self,
        actor: &Actor,
        may_give: impl Into<Grant>,
        id: ApiKeyId,
        overlap: Duration,
    ) -> Result<Rotated, ControlError> {
        if overlap > MAX_OVERLAP {
            return Err(invalid(
                "overlap_seconds",
                format!("give at most {} seconds", MAX_OVERLAP.as_secs()),
            ));
        }
        let (now, may_give): (_, Grant) = (self.now(), may_give.into());
        let mut tx = self.db.write().await?;
        let old = tx.lookup_api_key(actor.tenant, id).await?.ok_or(ControlError::NotFound)?;
        valid_end(old.expires_at, now)
            .map_err(|_| ControlError::Conflict("the key has expired; make a new one".into()))?;
        let rights = ApiKeyChange {
            name: old.name,
            scopes: old.scopes,
            instance_ids: old.instance_ids.map(|Json(ids)| ids),
            ip_allow: old.ip_allow.map(|Json(blocks)| blocks),
            expires_at: old.expires_at,
        };
        may_give.check(&rights)?;
        let (new, secret) = insert(&mut tx, actor.tenant, rights.clone(), now).await?;
        let old = if overlap.is_zero() {
            tx.revoke_api_key(actor.tenant, id, now).await?;
            None
        } else {
            let end = now + overlap;
            let expires_at = Some(rights.expires_at.map_or(end, |before| before.min(end)));
            tx.update_api_key(actor.tenant, id, &ApiKeyChange { expires_at, ..rights }).await?
        };
        let mut entry = actor.entry("key.rotate", id, now);
        entry.details = serde_json::json!({ "new": new.id, "overlap_seconds": overlap.as_secs() });
        tx.insert_audit(&entry).await?;
        tx.insert_revocation(Revoked::Key, id.as_uuid(), now).await?;
        tx.commit().await?;
        Ok(Rotated { old, new, secret })
    }

    /// Ends a key, and within a second on every replica what was opened with it.
    ///
    /// # Errors
    /// [`ControlError::NotFound`].
    pub async fn revoke_key(&self, actor: &Actor, id: ApiKeyId) -> Result<(), ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        tx.revoke_api_key(actor.tenant, id, now).await?.ok_or(ControlError::NotFound)?;
        tx.insert_audit(&actor.entry("key.revoke", id, now)).await?;
        tx.insert_revocation(Revoked::Key, id.as_uuid(), now).await?;
        Ok(tx.commit().await?)
    }

    async fn valid_instances(
        &self,
        tenant: UserId,
        ids: Option<Vec<InstanceId>>,
    ) -> Result<Option<Vec<InstanceId>>, ControlError> {
        let Some(mut ids) = ids else { return Ok(None) };
        ids.sort();
        ids.dedup();
        if ids.is_empty() || ids.len() > MAX_INSTANCES {
            return Err(invalid(
                "instance_ids",
                format!("give 1 to {MAX_INSTANCES} ids, or null for all instances"),
            ));
        }
        for id in &ids {
            if self.db.lookup_instance(tenant, *id).await?.is_none() {
                return Err(invalid("instance_ids", format!("there is no instance {id}")));
            }
        }
        Ok(Some(ids))
    }
}

async fn insert(
    tx: &mut Tx,
    tenant: UserId,
    rights: ApiKeyChange,
    now: Timestamp,
) -> Result<(ApiKeyRow, ApiKeySecret), ControlError> {
    let secret = ApiKeySecret::generate();
    let ApiKeyChange { name, scopes, instance_ids, ip_allow, expires_at } = rights;
    let new = NewApiKey {
        id: ApiKeyId::generate(),
        user_id: tenant,
        name,
        secret_hash: secret.hash(),
        prefix: secret.prefix().to_owned(),
        last4: secret.last4().to_owned(),
        scopes,
        instance_ids,
        ip_allow,
        created_at: now,
        expires_at,
    };
    Ok((tx.insert_api_key(&new).await?, secret))
}

fn valid_scopes(scopes: Scopes, may_give: Scopes) -> Result<Scopes, ControlError> {
    if scopes.is_empty() {
        return Err(invalid("scopes", "give at least one scope"));
    }
    match scopes.iter().find(|scope| !may_give.contains(*scope)) {
        Some(scope) => Err(invalid("scopes", format!("you cannot give {scope}, which your own key lacks"))),
        None => Ok(scopes),
    }
}

fn valid_blocks(texts: Option<Vec<String>>) -> Result<Option<Vec<String>>, ControlError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() || texts.len() > MAX_BLOCKS {
        return Err(invalid(
            "ip_allow",
            format!("give 1 to {MAX_BLOCKS} addresses or blocks, or null for any"),
        ));
    }
    let allow = IpAllow::parse(&texts).map_err(|error| invalid("ip_allow", error.to_string()))?;
    Ok(Some(allow.to_texts()))
}

fn valid_end(end: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, ControlError> {
    match end {
        Some(end) if end <= now => Err(invalid("expires_at", "give an instant that is still to come")),
        end => Ok(end),
    }
}
