//! Passwords: forgotten, reset, asked for once more.

use std::time::Duration;

use reef_auth::{Email, SecretString};
use reef_db::{ClaimedMail, Tx, UserRow};
use reef_mail::Letter;
use reef_model::{Revoked, SessionId, Timestamp, TokenPurpose, UserId};

use super::{Accounts, Client, Errand, address::bad_token, invalid};
use crate::{Actor, ControlError};

/// How long a mailed reset works.
pub(super) const RESET_TTL: Duration = Duration::from_secs(3600);

impl Accounts {
    /// Has a reset mailed to the address, if an account has it. It does the same, and takes the same time, if none has.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] where the text can be no address.
    pub async fn forget_password(&self, email: &str, client: &Client) -> Result<(), ControlError> {
        let email: Email = email.parse().map_err(|error| invalid("email", format!("{error}")))?;
        let errand = Errand::ForgottenPassword {
            request_id: client.request_id.clone(),
            ip: client.ip.map(|ip| ip.to_string()),
        };
        let mut tx = self.db.write().await?;
        self.put(&mut tx, None, email.as_str(), &errand, self.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Replaces the errand of a forgotten password by the letter with the token, where there is such an account.
    pub(crate) async fn answer_forgotten(
        &self,
        mail: &ClaimedMail,
        request_id: Option<String>,
        ip: Option<String>,
    ) -> Result<(), ControlError> {
        let now = self.now();
        let user = self.db.lookup_user_by_email(&mail.recipient).await?;
        let mut tx = self.db.write().await?;
        // Another courier may have taken it meanwhile.
        if tx.finish_mail(mail.id, mail.attempts).await? == 1
            && let Some(UserRow { id, email, .. }) = user
        {
            let token =
                self.mint_token(&mut tx, id, TokenPurpose::ResetPassword, &email, now + RESET_TTL).await?;
            self.post(&mut tx, Some(id), &email, Letter::ResetPassword { token }, now).await?;
            let actor = Actor { request_id, ip, ..Actor::anonymous(id) };
            tx.insert_audit(&actor.entry("account.forget_password", id, now)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Gives the account that a mailed token is for a new password and ends all its sessions. Keys stay, unless
    /// the address is proven only by this. The token is kept where the password cannot be taken.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field, [`ControlError::Overloaded`].
    pub async fn reset_password(
        &self,
        token: &SecretString,
        password: SecretString,
        client: &Client,
    ) -> Result<(), ControlError> {
        let password_hash = self.passwords.hash(password).await?;
        let now = self.now();
        let mut tx = self.db.write().await?;
        let proof = self.take(&mut tx, token, TokenPurpose::ResetPassword, now).await?;
        let user = tx.set_user_password(proof.user_id, &password_hash).await?.ok_or_else(bad_token)?;
        if user.email != proof.email {
            return Err(bad_token());
        }
        // Whoever reads the mail has the address.
        if user.email_verified_at.is_none() {
            tx.set_user_email(user.id, &user.email, now).await?;
            // Whoever made the account had not proven the address: nothing of theirs stays.
            tx.revoke_api_keys(user.id, now).await?;
        }
        let actor = Actor::signing_in(user.id, client);
        tx.insert_audit(&actor.entry("account.reset_password", user.id, now)).await?;
        self.password_changed(&mut tx, &user, None, now).await?;
        Ok(tx.commit().await?)
    }

    /// What follows from a new password: other sessions end, what was mailed is of no use, the holder is told. Comes late
    /// in a transaction.
    pub(super) async fn password_changed(
        &self,
        tx: &mut Tx,
        user: &UserRow,
        keep: Option<SessionId>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        tx.delete_account_tokens(user.id, TokenPurpose::ResetPassword).await?;
        // Also stops a change of address that somebody else began.
        tx.delete_account_tokens(user.id, TokenPurpose::VerifyEmail).await?;
        self.post(tx, Some(user.id), &user.email, Letter::PasswordChanged, now).await?;
        tx.delete_other_sessions(user.id, keep).await?;
        tx.insert_revocation(Revoked::User, user.id.as_uuid(), now).await?;
        Ok(())
    }

    /// Checks that whoever is signed in knows the password.
    pub(super) async fn confirm(
        &self,
        tenant: UserId,
        field: &'static str,
        password: Option<SecretString>,
    ) -> Result<UserRow, ControlError> {
        let password = password.ok_or_else(|| invalid(field, "is needed for this"))?;
        let user = self.db.lookup_user(tenant).await?.ok_or(ControlError::NotFound)?;
        if !self.passwords.verify(password, Some(user.password_hash.clone())).await? {
            return Err(invalid(field, "is not your password"));
        }
        Ok(user)
    }
}
