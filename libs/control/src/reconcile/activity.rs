//! When instances were last used: told by their doors, kept in memory, written in batches.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reef_db::InstanceRow;
use reef_door::DoorStatus;
use reef_model::{InstanceId, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Control, ControlError, Inner};

const FLUSH: Duration = Duration::from_secs(5);

/// What was told and is not written yet.
#[derive(Debug, Default)]
pub struct Activity(Mutex<BTreeMap<InstanceId, Timestamp>>);

impl Activity {
    fn note(&self, id: InstanceId, at: Timestamp) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted.entry(id).or_insert(at);
        *known = at.max(*known);
    }

    fn take(&self) -> BTreeMap<InstanceId, Timestamp> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Notes what a door says of the instance's last use; a door may lie about its own, but not about the future.
    pub(crate) fn note_activity(&self, row: &InstanceRow, status: &DoorStatus) {
        let Some(at) = status.last_active_at else { return };
        let at = at.min(self.now());
        if row.last_active_at.is_none_or(|known| known < at) {
            self.activity().note(row.id, at);
        }
    }
}

/// Writes what was noted, every few seconds until `shutdown`; a batch under way is written to its end.
pub(super) async fn keep(control: &Control, shutdown: &CancellationToken) {
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = flush(control).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "last uses of instances not recorded");
        }
    }
}

/// Writes what was noted since the last time, in one transaction; what cannot be written is noted again.
pub(super) async fn flush(control: &Control) -> Result<(), ControlError> {
    let noted = control.activity().take();
    if noted.is_empty() {
        return Ok(());
    }
    let written = write(control, &noted).await;
    if written.is_err() {
        noted.into_iter().for_each(|(id, at)| control.activity().note(id, at));
    }
    written
}

async fn write(control: &Control, noted: &BTreeMap<InstanceId, Timestamp>) -> Result<(), ControlError> {
    // In the order of ids, as all replicas have it: two batches never wait for each other's rows.
    let mut tx = control.db().write().await?;
    for (id, at) in noted {
        tx.record_activity(*id, *at).await?;
    }
    Ok(tx.commit().await?)
}
