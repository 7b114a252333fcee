//! The end of an account: unusable at once, gone after the restore window.

use reef_auth::SecretString;
use reef_mail::Letter;
use reef_model::{Revoked, Role, Timestamp, TokenPurpose, UserId};

use super::standing::another_operator;
use crate::{
    Actor, Control, ControlError,
    instance::{Changed, Verb},
};

const PAGE: i64 = 100;

/// What became of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many instances were soft-deleted with it.
    pub instances: usize,
    /// When its data goes.
    pub purge_at: Timestamp,
}

impl Control {
    /// Deletes the actor's account: its keys and sessions end, its instances are soft-deleted, its address is free.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] where the password is wrong, [`ControlError::Conflict`] for the last operator.
    pub async fn delete_account(
        &self,
        actor: &Actor,
        password: SecretString,
    ) -> Result<Deleted, ControlError> {
        let accounts = self.accounts();
        let user = accounts.confirm(actor.tenant, "password", Some(password)).await?;
        let now = self.now();
        let purge_at = now + self.policy().restore_window;
        let mut tx = self.db().write().await?;
        if user.role == Role::Operator {
            another_operator(&mut tx, user.id).await?;
        }
        tx.delete_user(user.id, now).await?.ok_or(ControlError::NotFound)?;
        // Waits for creations that are claiming one; later ones find none.
        tx.delete_free_entitlements(user.id).await?;
        let mut changed: Vec<Changed> = Vec::new();
        for (id,) in tx.list_instance_ids(user.id).await? {
            changed.push(self.change_intent(&mut tx, actor, id, Verb::Delete, now).await?);
        }
        tx.delete_free_entitlements(user.id).await?;
        for purpose in TokenPurpose::ALL {
            tx.delete_account_tokens(user.id, *purpose).await?;
        }
        tx.revoke_api_keys(user.id, now).await?;
        tx.delete_other_sessions(user.id, None).await?;
        accounts.post(&mut tx, Some(user.id), &user.email, Letter::AccountDeleted { purge_at }, now).await?;
        tx.insert_audit(&actor.entry("account.delete", user.id, now)).await?;
        tx.insert_revocation(Revoked::User, user.id.as_uuid(), now).await?;
        tx.commit().await?;
        for change in &changed {
            self.tell_changed(change).await;
        }
        Ok(Deleted { instances: changed.len(), purge_at })
    }

    /// Removes the accounts whose restore window is over and whose instances are gone, with all that is theirs. Returns
    /// how many.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn purge_accounts(&self) -> Result<usize, ControlError> {
        let before = self.now() - self.policy().restore_window;
        let mut purged = 0;
        loop {
            let users = self.db().list_purgeable_users_any(before, PAGE).await?;
            for (user,) in &users {
                purged += self.purge_account(*user).await?;
            }
            if users.len() < PAGE as usize {
                return Ok(purged);
            }
        }
    }

    async fn purge_account(&self, user: UserId) -> Result<usize, ControlError> {
        let operator = self.db().lookup_operator().await?;
        let mut tx = self.db().write().await?;
        if let Some(operator) = operator {
            // Codes that somebody made as an operator are the deployment's.
            tx.hand_over_invites(user, operator.id).await?;
        }
        tx.delete_entitlements(user).await?;
        tx.delete_model_usage(user).await?;
        tx.delete_mails(user).await?;
        tx.delete_audit(user).await?;
        let is_gone = tx.purge_user(user).await? == 1;
        if is_gone {
            // The deployment's own record: it says nothing of the person.
            let mut entry = Actor::system(user).entry("account.purge", user, self.now());
            entry.tenant = None;
            tx.insert_audit(&entry).await?;
        }
        tx.commit().await?;
        Ok(usize::from(is_gone))
    }
}
