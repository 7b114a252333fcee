//! Operations: one row per long verb, and waiting for its end.

use std::time::Duration;

use reef_db::{InstanceRow, NewOperation, OperationRow, Tx};
use reef_model::{OperationId, OperationKind, OperationStatus, Timestamp, UserId};
use tokio::sync::broadcast::error::RecvError;

use crate::{ControlError, EventKind, Inner};

/// Another replica's work is not told here: look this often.
const POLL: Duration = Duration::from_secs(2);

impl Inner {
    /// Returns the tenant's operation, once it has ended or `wait` is over.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] where it does not exist or is another tenant's.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    pub async fn wait_operation(
        &self,
        tenant: UserId,
        id: OperationId,
        wait: Duration,
    ) -> Result<OperationRow, ControlError> {
        // Follow before looking: an end in between is then seen.
        let mut events = self.follow();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let row = self.db().lookup_operation(tenant, id).await?.ok_or(ControlError::NotFound)?;
            if row.status != OperationStatus::Running || tokio::time::Instant::now() >= deadline {
                return Ok(row);
            }
            let ended = async {
                loop {
                    match events.recv().await {
                        Ok(event) => {
                            if matches!(&event.kind, EventKind::Operation(row) if row.id == id) {
                                return;
                            }
                        }
                        Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            let look_again = (tokio::time::Instant::now() + POLL).min(deadline);
            let _ = tokio::time::timeout_at(look_again, ended).await;
        }
    }
}

pub(super) async fn insert_operation(
    tx: &mut Tx,
    row: &InstanceRow,
    kind: OperationKind,
    now: Timestamp,
) -> Result<OperationRow, ControlError> {
    let operation = NewOperation {
        id: OperationId::generate(),
        user_id: row.user_id,
        instance_id: row.id,
        kind,
        target_generation: row.generation,
        created_at: now,
    };
    Ok(tx.insert_operation(&operation).await?)
}
