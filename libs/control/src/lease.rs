//! A lease row: the right to do something alone, across replicas, that outlives no crash by more than its time.

use std::time::Duration;

use reef_db::Tx;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Control, ControlError};

const TTL: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);

/// A lease that is held; renewed in the background until released, dropped or lost.
pub(crate) struct Lease {
    control: Control,
    name: String,
    epoch: i64,
    lost: CancellationToken,
    _renewal: DropGuard,
}

impl Lease {
    /// Takes the lease; `None`: another replica has it. Within this process the caller sees to it that one asks.
    pub(crate) async fn claim(control: &Control, name: String) -> Result<Option<Self>, ControlError> {
        let Some(epoch) = claim(control, &name).await? else {
            return Ok(None);
        };
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(renew(control.clone(), name.clone(), epoch, lost.clone(), stop.clone()));
        Ok(Some(Self { control: control.clone(), name, epoch, lost, _renewal: stop.drop_guard() }))
    }

    /// Fails the transaction unless the lease is still ours; nobody can take it before the transaction ends.
    pub(crate) async fn fence(&self, tx: &mut Tx) -> Result<(), ControlError> {
        let held = tx.check_lease(&self.name, self.control.replica(), self.epoch, self.control.now()).await?;
        held.map(|_| ()).ok_or(ControlError::Stale)
    }

    /// Waits until the lease can no longer be counted on.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back; where that fails it runs out by itself.
    pub(crate) async fn release(self) {
        let released = async {
            let mut tx = self.control.db().write().await?;
            tx.release_lease(&self.name, self.control.replica(), self.control.now()).await?;
            tx.commit().await
        };
        if let Err(error) = released.await {
            tracing::debug!(
                lease = self.name,
                error = &error as &dyn std::error::Error,
                "lease not released"
            );
        }
    }
}

async fn renew(control: Control, name: String, epoch: i64, lost: CancellationToken, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
        // One failed renewal ends it, well before the row runs out: two holders are worse than none.
        let renewed = tokio::time::timeout(RENEW, claim(&control, &name)).await;
        if !matches!(renewed, Ok(Ok(Some(held))) if held == epoch) {
            lost.cancel();
            return;
        }
    }
}

async fn claim(control: &Control, name: &str) -> Result<Option<i64>, ControlError> {
    let mut tx = control.db().write().await?;
    let epoch = tx.claim_lease(name, control.replica(), control.now(), TTL).await?;
    tx.commit().await?;
    Ok(epoch)
}
