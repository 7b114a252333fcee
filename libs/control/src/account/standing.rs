//! What operators decide of accounts: who is an operator, and who is locked out.

use reef_db::{Tx, UserRow};
use reef_model::{Revoked, Role, UserId};

use super::Accounts;
use crate::{Actor, ControlError};

/// What an operator changes of an account; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandingChange {
    /// Operator or not.
    pub role: Option<Role>,
    /// Whether it is locked: its sessions end for good, its keys are of no use until it is opened again.
    pub is_locked: Option<bool>,
}

impl Accounts {
    /// Changes the standing of any account, for an operator; it holds on every replica within a second.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] where no operator would be left who can act.
    pub async fn change_standing(
        &self,
        operator: &Actor,
        id: UserId,
        change: StandingChange,
    ) -> Result<UserRow, ControlError> {
        let (now, actor) = (self.now(), operator.acting_on(id));
        let mut tx = self.db.write().await?;
        if change.role == Some(Role::User) || change.is_locked == Some(true) {
            another_operator(&mut tx, id).await?;
        }
        let before = tx.lookup_user(id).await?.ok_or(ControlError::NotFound)?;
        let mut user = before.clone();
        if let Some(role) = change.role.filter(|role| *role != before.role) {
            user = tx.set_user_role(id, role).await?.ok_or(ControlError::NotFound)?;
            let mut entry = actor.entry("account.set_role", id, now);
            entry.details = serde_json::json!({ "role": role });
            tx.insert_audit(&entry).await?;
        }
        if let Some(is_locked) = change.is_locked.filter(|lock| *lock != before.locked_at.is_some()) {
            user = tx.set_user_locked(id, is_locked.then_some(now)).await?.ok_or(ControlError::NotFound)?;
            if is_locked {
                tx.delete_other_sessions(id, None).await?;
            }
            let action = if is_locked { "account.lock" } else { "account.unlock" };
            tx.insert_audit(&actor.entry(action, id, now)).await?;
        }
        if user != before {
            // Not always a loss; it makes every server look at the account again.
            tx.insert_revocation(Revoked::User, id.as_uuid(), now).await?;
        }
        tx.commit().await?;
        Ok(user)
    }
}

/// Makes sure, until the transaction ends, that an operator other than `id` can act, where `id` is one.
pub(super) async fn another_operator(tx: &mut Tx, id: UserId) -> Result<(), ControlError> {
    let operators = tx.lock_operators().await?;
    if operators == [(id,)] {
        let what = "this is the only operator: make another account one first";
        return Err(ControlError::Conflict(what.into()));
    }
    Ok(())
}
