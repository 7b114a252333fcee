//! The account as its holder sees it, and what they may change of it.

use reef_auth::{Email, SecretString};
use reef_db::{EntitlementRow, Page, UserRow};
use reef_mail::Letter;
use reef_model::{SessionId, UserId};

use super::{Accounts, address::taken, invalid, valid_name};
use crate::{Actor, ControlError};

/// More entitlements than these are not looked at.
const MAX_ENTITLEMENTS: i64 = 10_000;

/// An account and what belongs to it.
#[derive(Debug)]
pub struct Profile {
    /// The account.
    pub user: UserRow,
    /// The address that it gets once it is proven.
    pub pending_email: Option<String>,
    /// What lets it hold instances, held and free, without what has ended.
    pub entitlements: Vec<EntitlementRow>,
}

/// What is to change; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct AccountChange {
    /// What to call its holder, 1–100 characters; `Some(None)`: nothing.
    pub name: Option<Option<String>>,
    /// Another address; takes effect once it is proven.
    pub email: Option<String>,
    /// Another password.
    pub password: Option<SecretString>,
    /// The present password: needed for a new address or password.
    pub current_password: Option<SecretString>,
    /// The session that outlives a change of the password.
    pub keep: Option<SessionId>,
}

impl Accounts {
    /// Returns the account.
    ///
    /// # Errors
    /// [`ControlError::NotFound`].
    pub async fn profile(&self, tenant: UserId) -> Result<Profile, ControlError> {
        let now = self.now();
        let user = self.db.lookup_user(tenant).await?.ok_or(ControlError::NotFound)?;
        let proof = self.db.lookup_verification(tenant, now).await?;
        let mut entitlements = self.db.list_entitlements(tenant, Page::first(MAX_ENTITLEMENTS)).await?;
        entitlements.retain(|row| row.expires_at.is_none_or(|end| end > now));
        let pending_email = proof.map(|proof| proof.email).filter(|email| *email != user.email);
        Ok(Profile { user, pending_email, entitlements })
    }

    /// Changes name, address or password of the actor's account: all that is asked for, or nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field, a wrong `current_password` included; [`ControlError::Conflict`] where another
    /// account has the address; [`ControlError::Overloaded`].
    pub async fn change_account(&self, actor: &Actor, change: AccountChange) -> Result<(), ControlError> {
        let name = match change.name {
            Some(Some(name)) => Some(Some(valid_name(&name)?)),
            other => other,
        };
        let parse =
            |text: String| text.parse::<Email>().map_err(|error| invalid("email", format!("{error}")));
        let email = change.email.map(parse).transpose()?;
        let user = if email.is_some() || change.password.is_some() {
            self.confirm(actor.tenant, "current_password", change.current_password).await?
        } else {
            self.db.lookup_user(actor.tenant).await?.ok_or(ControlError::NotFound)?
        };
        let email = email.filter(|email| email.as_str() != user.email || user.email_verified_at.is_none());
        if let Some(email) = &email
            && self.db.lookup_user_by_email(email.as_str()).await?.is_some_and(|other| other.id != user.id)
        {
            return Err(taken(reef_db::DbError::Conflict(reef_db::Unique::UserEmail)));
        }
        let password_hash = match change.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let now = self.now();
        let mut tx = self.db.write().await?;
        if let Some(name) = &name {
            tx.set_user_name(user.id, name.as_deref()).await?.ok_or(ControlError::NotFound)?;
            tx.insert_audit(&actor.entry("account.rename", user.id, now)).await?;
        }
        if let Some(hash) = &password_hash {
            tx.set_user_password(user.id, hash).await?.ok_or(ControlError::NotFound)?;
            tx.insert_audit(&actor.entry("account.change_password", user.id, now)).await?;
            self.password_changed(&mut tx, &user, change.keep, now).await?;
        }
        // After the password, which makes earlier mail useless.
        if let Some(email) = &email {
            self.ask_for_proof(&mut tx, user.id, email.as_str(), now).await?;
            if email.as_str() != user.email && user.email_verified_at.is_some() {
                let letter = Letter::EmailChange { to: email.as_str().to_owned() };
                self.post(&mut tx, Some(user.id), &user.email, letter, now).await?;
            }
            tx.insert_audit(&actor.entry("account.change_email", user.id, now)).await?;
        }
        Ok(tx.commit().await?)
    }
}
