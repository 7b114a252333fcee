//! A lease row: the right to do something alone, across replicas, that outlives no crash by more than its time.

use std::time::Duration;

use reef_db::Db;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Control, ControlError};

const TTL: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);

/// A lease that is held; renewed in the background until released, dropped or lost.
pub(crate) struct Lease {
    db: Db,
    name: String,
    owner: String,
    lost: CancellationToken,
    _renewal: DropGuard,
}

impl Lease {
    /// Takes the lease; `None`: somebody else has it.
    pub(crate) async fn claim(control: &Control, name: String) -> Result<Option<Self>, ControlError> {
        let owner = control.replica().to_owned();
        if !claim(control, &name, &owner).await? {
            return Ok(None);
        }
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn({
            let (control, name, owner) = (control.clone(), name.clone(), owner.clone());
            let (lost, stop) = (lost.clone(), stop.clone());
            async move {
                while stop.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
                    // One failed renewal ends it early, well before the row runs out: two holders are worse than none.
                    let is_held = tokio::time::timeout(RENEW, claim(&control, &name, &owner)).await;
                    if !matches!(is_held, Ok(Ok(true))) {
                        lost.cancel();
                        return;
                    }
                }
            }
        });
        let db = control.db().clone();
        Ok(Some(Self { db, name, owner, lost, _renewal: stop.drop_guard() }))
    }

    /// Waits until the lease can no longer be counted on.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back; where that fails it runs out by itself.
    pub(crate) async fn release(self) {
        let released = async {
            let mut tx = self.db.write().await?;
            tx.release_lease(&self.name, &self.owner).await?;
            tx.commit().await
        };
        if let Err(error) = released.await {
            tracing::debug!(lease = self.name, error = &error as &dyn std::error::Error, "lease not released");
        }
    }
}

async fn claim(control: &Control, name: &str, owner: &str) -> Result<bool, ControlError> {
    let mut tx = control.db().write().await?;
    let epoch = tx.claim_lease(name, owner, control.now(), TTL).await?;
    tx.commit().await?;
    Ok(epoch.is_some())
}
