//! Checked keys, kept until they change, and whose streams must end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use reef_auth::{Caller, Credential};
use reef_control::{ControlError, account::Accounts};
use reef_db::RevocationRow;
use reef_model::{Revoked, Timestamp};
use uuid::Uuid;

use super::identity::{Identity, Standing, uuid_of};

const MAX_KEYS: u64 = 100_000;
/// How long a key is believed without the database: as long as streams live without it.
const TTL: Duration = Duration::from_secs(60);

/// What this process knows of keys and sessions.
pub(crate) struct CallerCache {
    keys: Cache<[u8; 32], Arc<Identity>>,
    // One small entry per credential that was used since the start: streams outlive what the cache keeps.
    standings: Mutex<HashMap<Uuid, Known>>,
    applied: AtomicI64,
}

#[derive(Clone)]
struct Known {
    /// With the rights that its streams were opened with.
    caller: Caller,
    ends_at: Option<Timestamp>,
    standing: Arc<Standing>,
}

impl Default for CallerCache {
    fn default() -> Self {
        Self {
            keys: Cache::builder().max_capacity(MAX_KEYS).time_to_live(TTL).build(),
            standings: Mutex::default(),
            applied: AtomicI64::new(0),
        }
    }
}

impl CallerCache {
    /// Returns who the key belongs to, where that is known without a query.
    pub(crate) async fn warm(&self, key: &[u8; 32]) -> Option<Arc<Identity>> {
        self.keys.get(key).await.filter(|identity| identity.is_current())
    }

    /// Returns who the key belongs to; `None`: it is none, or revoked. One that has expired is returned.
    pub(crate) async fn look_up(
        &self,
        accounts: &Accounts,
        hash: [u8; 32],
    ) -> Result<Option<Arc<Identity>>, ControlError> {
        loop {
            let seen = self.applied.load(Ordering::Acquire);
            let Some(record) = accounts.lookup_key(&hash).await? else { return Ok(None) };
            let principal = record.caller().clone();
            let standing = self.standing(&principal, record.expires_at());
            let identity = Arc::new(Identity::new(principal, Some(record), standing));
            // A change that was applied between the query and the standing would otherwise be missed.
            if self.applied.load(Ordering::Acquire) == seen {
                self.keys.insert(hash, identity.clone()).await;
                return Ok(Some(identity));
            }
        }
    }

    /// Returns up to where changes were applied: to be read before a credential is looked up outside the cache.
    pub(crate) fn applied(&self) -> i64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Returns the standing of a credential that was looked up after `seen` was read; `None`: it has ended since.
    pub(crate) async fn standing_since(
        &self,
        accounts: &Accounts,
        seen: i64,
        caller: &Caller,
        ends_at: Option<Timestamp>,
    ) -> Result<Option<Arc<Standing>>, ControlError> {
        let standing = self.standing(caller, ends_at);
        // A change that was applied between the look-up and the standing told nobody.
        let is_good = self.applied() == seen || accounts.is_live(caller.tenant, caller.credential).await?;
        Ok(is_good.then_some(standing))
    }

    /// Returns the standing of a credential that was just found good.
    fn standing(&self, caller: &Caller, ends_at: Option<Timestamp>) -> Arc<Standing> {
        let new = || Known { caller: caller.clone(), ends_at, standing: Arc::default() };
        let mut standings = self.lock();
        let known = standings.entry(uuid_of(caller.credential)).or_insert_with(new);
        if known.caller != *caller {
            // A change that was read before it was told of.
            known.standing.revoked.cancel();
            *known = new();
        }
        known.ends_at = ends_at;
        known.standing.clone()
    }

    /// Takes note of a change: the next check reads anew; where rights are gone or others, open streams end now.
    ///
    /// # Errors
    /// [`ControlError::Db`]: to be repeated with the same row.
    pub(crate) async fn apply(
        &self,
        accounts: &Accounts,
        change: &RevocationRow,
    ) -> Result<(), ControlError> {
        self.applied.fetch_max(change.seq, Ordering::AcqRel);
        let is_meant = |id: &Uuid, known: &Known| match change.kind {
            Revoked::Key | Revoked::Session => *id == change.subject_id,
            Revoked::User => known.caller.tenant.as_uuid() == change.subject_id,
        };
        let touched: Vec<(Uuid, Known)> = self
            .lock()
            .iter()
            .filter(|(id, known)| is_meant(id, known))
            .map(|(id, known)| (*id, known.clone()))
            .collect();
        for (id, known) in touched {
            known.standing.version.fetch_add(1, Ordering::AcqRel);
            let (tenant, credential) = (known.caller.tenant, known.caller.credential);
            let key = match credential {
                Credential::Key(id) => accounts.lookup_key_by_id(tenant, id).await?,
                Credential::Session(_) => None,
            };
            let is_as_before = key.as_ref().is_none_or(|key| *key.caller() == known.caller);
            if !is_as_before || !accounts.is_live(tenant, credential).await? {
                known.standing.revoked.cancel();
                self.lock().remove(&id);
            } else if let (Some(key), Some(known)) = (key, self.lock().get_mut(&id)) {
                known.ends_at = key.expires_at();
            }
        }
        Ok(())
    }

    /// Ends what was opened with keys and sessions whose time is over, and forgets them.
    pub(crate) fn expire(&self, now: Timestamp) {
        self.lock().retain(|_, known| {
            let is_over = known.ends_at.is_some_and(|end| end <= now);
            if is_over {
                known.standing.revoked.cancel();
            }
            !is_over
        });
    }

    /// Believes nobody any more and ends every stream: the database was out of reach for too long.
    pub(crate) fn distrust(&self) {
        for (_, known) in self.lock().drain() {
            known.standing.revoked.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
