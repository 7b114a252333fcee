//! Last use of keys and sessions: kept in memory by each request, written in batches.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reef_auth::Credential;
use reef_db::{KeyUse, SessionUse};
use reef_model::Timestamp;

use super::Accounts;
use crate::ControlError;

type Seen = HashMap<Credential, (Timestamp, Option<IpAddr>)>;

#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<Seen>);

impl Uses {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// Notes that a credential was used now. Memory only; call it on each authenticated request.
    pub fn record_use(&self, credential: Credential, ip: Option<IpAddr>) {
        self.uses.lock().insert(credential, (self.now(), ip));
    }

    /// Writes what was noted since the last time, in one transaction. Returns how many credentials. What could not be
    /// written is kept for the next time.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn flush_uses(&self) -> Result<usize, ControlError> {
        let seen = std::mem::take(&mut *self.uses.lock());
        if seen.is_empty() {
            return Ok(0);
        }
        let written = self.write_uses(&seen).await;
        if written.is_err() {
            let mut kept = self.uses.lock();
            for (credential, used) in seen {
                kept.entry(credential).or_insert(used);
            }
        }
        written
    }

    async fn write_uses(&self, seen: &Seen) -> Result<usize, ControlError> {
        // One order for all replicas, or two batches could wait for each other's rows.
        let mut ordered: Vec<_> = seen.iter().collect();
        ordered.sort_by_key(|(credential, _)| match credential {
            Credential::Key(id) => (0, id.as_uuid()),
            Credential::Session(id) => (1, id.as_uuid()),
        });
        let mut tx = self.db.write().await?;
        for (credential, (at, ip)) in ordered {
            match *credential {
                Credential::Key(id) => tx.record_api_key_use(KeyUse { id, at: *at, ip: *ip }).await?,
                Credential::Session(id) => tx.record_session_use(SessionUse { id, at: *at }).await?,
            };
        }
        tx.commit().await?;
        Ok(seen.len())
    }
}
