//! Start, stop, restart, delete, restore and patch.

use std::collections::BTreeMap;

use reef_db::{InstanceChange, InstanceRow, IntentChange, OperationError, OperationRow, Tx};
use reef_model::{Desired, InstanceId, OperationKind, OperationStatus, Timestamp};

use super::{
    create::{valid_env, valid_idle_timeout, valid_name},
    operation::insert_operation,
};
use crate::{Actor, Control, ControlError, Lease};

/// A verb that changes what the owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Bring it up.
    Start,
    /// Bring it down, data kept.
    Stop,
    /// Down and up.
    Restart,
    /// Soft delete.
    Delete,
    /// Undo of a soft delete: stopped again, data as it was.
    Restore,
}

impl Verb {
    fn kind(self) -> OperationKind {
        match self {
            Self::Start => OperationKind::Start,
            Self::Stop => OperationKind::Stop,
            Self::Restart => OperationKind::Restart,
            Self::Delete => OperationKind::Delete,
            Self::Restore => OperationKind::Restore,
        }
    }

    /// Going down may always cut in; anything else waits for what is under way.
    fn supersedes(self) -> bool {
        matches!(self, Self::Stop | Self::Delete)
    }

    fn change(
        self,
        row: &InstanceRow,
        control: &Control,
        now: Timestamp,
    ) -> Result<IntentChange, ControlError> {
        let is_deleted = row.desired == Desired::Deleted;
        match self {
            // What is over is being purged, whether or not that has begun.
            Self::Restore if is_deleted && row.purge_at.is_none_or(|at| at <= now) => {
                Err(ControlError::Conflict("the restore window is over; the data is gone".into()))
            }
            Self::Restore if is_deleted => Ok(IntentChange::to(Desired::Stopped)),
            Self::Restore => {
                Err(ControlError::Conflict("the instance is not deleted; there is nothing to restore".into()))
            }
            _ if is_deleted => {
                Err(ControlError::Conflict("the instance is deleted; restore it first".into()))
            }
            // What runs already is not replaced.
            Self::Start => Ok(IntentChange {
                bump_generation: row.desired != Desired::Running,
                ..IntentChange::to(Desired::Running)
            }),
            Self::Stop => Ok(IntentChange::to(Desired::Stopped)),
            Self::Restart => Ok(IntentChange::to(Desired::Running)),
            Self::Delete => Ok(IntentChange {
                deleted_at: Some(now),
                purge_at: Some(now + control.policy().restore_window),
                ..IntentChange::to(Desired::Deleted)
            }),
        }
    }
}

/// A change of intent.
#[derive(Debug)]
pub(crate) struct Changed {
    row: InstanceRow,
    operation: OperationRow,
    /// What was under way and gave way.
    superseded: Option<OperationRow>,
    /// Whether anything was changed: the goal may have been set already.
    is_news: bool,
}

/// What an owner may change of an instance; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct PatchInstance {
    /// 1 to 64 characters.
    pub name: Option<String>,
    /// 60 s to 30 days.
    pub idle_timeout_seconds: Option<u32>,
    /// The whole new environment; takes effect at the next start.
    pub env: Option<BTreeMap<String, String>>,
    /// Only if the row is as the caller read it.
    pub expected_updated_at: Option<Timestamp>,
}

impl Control {
    /// Changes what the owner wants; the operation ends when it is so.
    ///
    /// Repeating a verb whose goal is set already returns its operation, or one that has succeeded.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Busy`], [`ControlError::Conflict`];
    /// [`ControlError::EntitlementRequired`] where a restore finds no free entitlement.
    pub async fn command(
        &self,
        actor: &Actor,
        id: InstanceId,
        verb: Verb,
    ) -> Result<(InstanceRow, OperationRow), ControlError> {
        let now = self.now();
        let mut tx = self.db().write().await?;
        let changed = self.change_intent(&mut tx, actor, id, verb, now).await?;
        tx.commit().await?;
        self.tell_changed(&changed).await;
        Ok((changed.row, changed.operation))
    }

    /// Does what [`Control::command`] does to an instance whoever owns it, for an operator.
    ///
    /// # Errors
    /// As there.
    pub async fn command_any(
        &self,
        operator: &Actor,
        id: InstanceId,
        verb: Verb,
    ) -> Result<(InstanceRow, OperationRow), ControlError> {
        let row = self.db().lookup_instance_any(id).await?.ok_or(ControlError::NotFound)?;
        self.command(&operator.acting_on(row.user_id), id, verb).await
    }

    /// Does what [`Control::command`] does, in the caller's transaction; once that is kept, tell of it.
    pub(crate) async fn change_intent(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        id: InstanceId,
        verb: Verb,
        now: Timestamp,
    ) -> Result<Changed, ControlError> {
        let row = tx.lookup_instance(actor.tenant, id).await?.ok_or(ControlError::NotFound)?;
        let change = verb.change(&row, self, now)?;
        let mut superseded = None;
        if let Some(running) = tx.running_operation(id).await? {
            if running.kind == verb.kind() && verb != Verb::Restart {
                return Ok(Changed { row, operation: running, superseded, is_news: false });
            }
            if !verb.supersedes() {
                return Err(ControlError::Busy { id: running.id, kind: running.kind });
            }
            let error = OperationError {
                code: "superseded".into(),
                message: format!("a later {} took its place", verb.kind()),
            };
            superseded = tx.finish_operation(running.id, OperationStatus::Failed, Some(&error), now).await?;
        }
        if verb == Verb::Restore {
            tx.claim_entitlement(actor.tenant, id, Some(row.plan), now)
                .await?
                .ok_or(ControlError::EntitlementRequired)?;
        }
        if verb == Verb::Delete {
            tx.release_entitlement(actor.tenant, id).await?;
        }
        let row = tx.set_intent(actor.tenant, id, change, now).await?.ok_or(ControlError::NotFound)?;
        let operation = insert_operation(tx, &row, verb.kind(), now).await?;
        tx.insert_audit(&actor.entry(audit_action(verb), id, now)).await?;
        Ok(Changed { row, operation, superseded, is_news: true })
    }

    /// Tells followers and the reconciler of a change that was kept.
    pub(crate) async fn tell_changed(&self, changed: &Changed) {
        if !changed.is_news {
            return;
        }
        for operation in changed.superseded.iter().chain([&changed.operation]) {
            self.tell_operation(operation).await;
        }
        self.tell_instance(&changed.row).await;
        self.queue().push(changed.row.id);
    }

    /// Changes name, idle timeout or environment.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`], [`ControlError::Stale`].
    pub async fn patch_instance(
        &self,
        actor: &Actor,
        id: InstanceId,
        patch: PatchInstance,
    ) -> Result<InstanceRow, ControlError> {
        let name = patch.name.as_deref().map(valid_name).transpose()?;
        let idle = patch.idle_timeout_seconds.map(valid_idle_timeout).transpose()?;
        patch.env.as_ref().map_or(Ok(()), valid_env)?;
        let now = self.now();
        let mut tx = self.db().write().await?;
        let row = tx.lookup_instance(actor.tenant, id).await?.ok_or(ControlError::NotFound)?;
        if row.desired == Desired::Deleted {
            return Err(ControlError::Conflict("the instance is deleted; restore it first".into()));
        }
        let change = InstanceChange {
            name,
            idle_timeout_seconds: idle.map(|idle| Some(i64::try_from(idle.as_secs()).unwrap_or(i64::MAX))),
            env_enc: patch.env.map(|env| self.seal_env(id, &env)),
            expected_updated_at: patch.expected_updated_at,
        };
        let row = tx.update_instance(actor.tenant, id, &change, now).await?.ok_or(ControlError::Stale)?;
        tx.insert_audit(&actor.entry("instance.update", id, now)).await?;
        tx.commit().await?;
        self.tell_instance(&row).await;
        Ok(row)
    }

    /// Removes the row of an instance whose data is gone; the last act of the reconciler.
    pub(crate) async fn purge(&self, lease: &Lease, row: &InstanceRow) -> Result<(), ControlError> {
        let mut tx = self.db().write().await?;
        lease.fence(&mut tx).await?;
        tx.purge_instance(row.id).await?;
        tx.insert_audit(&Actor::system(row.user_id).entry("instance.purge", row.id, self.now())).await?;
        tx.commit().await?;
        self.tell_purged(row.user_id, row.id).await;
        Ok(())
    }
}

fn audit_action(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "instance.start",
        Verb::Stop => "instance.stop",
        Verb::Restart => "instance.restart",
        Verb::Delete => "instance.delete",
        Verb::Restore => "instance.restore",
    }
}
