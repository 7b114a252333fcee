//! What happens to instances, told to whoever follows in this process.

use std::sync::Arc;

use reef_db::{InstanceRow, OperationRow};
use reef_model::{InstanceId, UserId};
use tokio::sync::broadcast;

use crate::Inner;

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

impl Inner {
    /// Follows everything that happens from now on; a lagging follower loses the oldest and must look again.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    pub(crate) async fn tell_instance(&self, row: &InstanceRow) {
        self.tell(row.user_id, row.id, EventKind::Instance(Box::new(row.clone()))).await;
    }

    pub(crate) async fn tell_operation(&self, row: &OperationRow) {
        self.tell(row.user_id, row.instance_id, EventKind::Operation(Box::new(row.clone()))).await;
    }

    pub(crate) async fn tell(&self, tenant: UserId, instance_id: InstanceId, kind: EventKind) {
        self.upstreams.invalidate(&instance_id).await;
        // Nobody following is fine.
        let _ = self.events.send(Arc::new(Event { tenant, instance_id, kind }));
    }
}
