//! What happens to instances, told to whoever follows in this process, wherever it was done.
//!
//! What this replica does it tells at once. What others do it reads: a wake says that something changed, and rows that are
//! other than they were last told of are told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reef_db::{InstanceRow, OperationRow, Wake};
use reef_model::{InstanceId, OperationId, OperationStatus, Timestamp, UserId};
use tokio::sync::broadcast;

use crate::{ControlError, Inner};

/// How often is looked without a wake: one may be lost.
const LOOK: Duration = Duration::from_secs(5);
/// How far back a look goes: a change may be committed after a later one, and replicas' clocks are not quite the same.
const OVERLAP: Duration = Duration::from_secs(10);
const PAGE: i64 = 500;
/// The operation that a verb began, and the one that it ended.
const OPERATIONS: i64 = 2;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose it is.
    pub tenant: UserId,
    /// The instance.
    pub instance_id: InstanceId,
    /// What.
    pub kind: EventKind,
}

/// What happened, with the row after it.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// The instance's intent or facts changed.
    Instance(Box<InstanceRow>),
    /// The instance and its data are gone.
    Purged,
    /// An operation began or ended.
    Operation(Box<OperationRow>),
}

/// What was told lately, so that nothing is told twice.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Versions>);

#[derive(Debug, Default)]
struct Versions {
    instances: HashMap<InstanceId, Timestamp>,
    operations: HashMap<OperationId, (Timestamp, OperationStatus, i64)>,
    /// Those that will be purged, and whose they are.
    deleted: HashMap<InstanceId, (UserId, Timestamp)>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the row is other than the last that was noted of it.
    fn is_news(&self, row: &InstanceRow) -> bool {
        let mut versions = self.lock();
        match row.purge_at {
            Some(purge_at) => drop(versions.deleted.insert(row.id, (row.user_id, purge_at))),
            None => drop(versions.deleted.remove(&row.id)),
        }
        versions.instances.insert(row.id, row.updated_at) != Some(row.updated_at)
    }

    fn is_operation_news(&self, row: &OperationRow, now: Timestamp) -> bool {
        let before = self.lock().operations.insert(row.id, (now, row.status, row.progress));
        before.is_none_or(|(_, status, progress)| (status, progress) != (row.status, row.progress))
    }

    /// Forgets what no look goes back to.
    fn forget(&self, before: Timestamp) {
        let mut versions = self.lock();
        versions.instances.retain(|_, at| *at > before);
        versions.operations.retain(|_, (at, ..)| *at > before);
    }
}

impl Inner {
    /// Follows everything that happens from now on; a lagging follower loses the oldest and must look again.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Tells what other replicas do, for as long as it is polled.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn relay_events(&self) {
        let mut wakes = self.db().wakes(Wake::Instances);
        // Nobody follows yet who could have missed what was before.
        let mut since = self.now();
        loop {
            match self.relay_once(since).await {
                Ok(latest) => since = latest,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "events of other replicas not read"
                    );
                }
            }
            let _ = tokio::time::timeout(LOOK, wakes.changed()).await;
        }
    }

    /// Tells what changed after `since`, give or take; returns up to when that was.
    async fn relay_once(&self, since: Timestamp) -> Result<Timestamp, ControlError> {
        let mut latest = since;
        let mut after = since - OVERLAP;
        loop {
            let rows = self.db().list_changed_instances(after, PAGE).await?;
            for row in &rows {
                after = row.updated_at;
                if !self.told.is_news(row) {
                    continue;
                }
                self.send(row.user_id, row.id, EventKind::Instance(Box::new(row.clone()))).await;
                for operation in self.db().list_operations_on(row.id, OPERATIONS).await?.iter().rev() {
                    self.tell_operation(operation).await;
                }
            }
            latest = latest.max(after);
            if rows.len() < PAGE as usize {
                break;
            }
        }
        self.relay_purged().await?;
        self.told.forget(latest - OVERLAP);
        Ok(latest)
    }

    async fn relay_purged(&self) -> Result<(), ControlError> {
        let now = self.now();
        let due: Vec<_> = {
            let versions = self.told.lock();
            let due = versions.deleted.iter().filter(|(_, (_, purge_at))| *purge_at <= now);
            due.map(|(id, (tenant, _))| (*id, *tenant)).collect()
        };
        for (id, tenant) in due {
            if self.db().lookup_instance_any(id).await?.is_none()
                && self.told.lock().deleted.remove(&id).is_some()
            {
                self.send(tenant, id, EventKind::Purged).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn tell_instance(&self, row: &InstanceRow) {
        if self.told.is_news(row) {
            self.send(row.user_id, row.id, EventKind::Instance(Box::new(row.clone()))).await;
        }
    }

    pub(crate) async fn tell_operation(&self, row: &OperationRow) {
        if self.told.is_operation_news(row, self.now()) {
            self.send(row.user_id, row.instance_id, EventKind::Operation(Box::new(row.clone()))).await;
        }
    }

    pub(crate) async fn tell_purged(&self, tenant: UserId, id: InstanceId) {
        self.told.lock().deleted.remove(&id);
        self.send(tenant, id, EventKind::Purged).await;
    }

    async fn send(&self, tenant: UserId, instance_id: InstanceId, kind: EventKind) {
        self.upstreams.invalidate(&instance_id).await;
        // Nobody following is fine.
        let _ = self.events.send(Arc::new(Event { tenant, instance_id, kind }));
    }
}
