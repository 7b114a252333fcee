//! Mail addresses: proving them.

use std::time::Duration;

use reef_auth::{ExposeSecret, SecretString, random_token, token::mailed_token_hash};
use reef_db::{DbError, NewAccountToken, Tx, Unique, UserRow};
use reef_mail::Letter;
use reef_model::{Timestamp, TokenPurpose, UserId};

use super::{Accounts, Client, invalid};
use crate::{Actor, ControlError};

const PROOF_TTL: Duration = Duration::from_secs(24 * 3600);

impl Accounts {
    /// Takes the token of a mail as a proof of the address that it was sent to, which becomes the account's where it
    /// is not yet.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for the token, [`ControlError::Conflict`] where another account got the address first.
    pub async fn verify_email(&self, token: &SecretString, client: &Client) -> Result<UserRow, ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        let proof = self.take(&mut tx, token, TokenPurpose::VerifyEmail, now).await?;
        let user = tx.set_user_email(proof.user_id, &proof.email, now).await.map_err(taken)?;
        let user = user.ok_or_else(bad_token)?;
        tx.delete_account_tokens(user.id, TokenPurpose::VerifyEmail).await?;
        tx.insert_audit(&Actor::signing_in(user.id, client).entry("account.verify_email", user.id, now))
            .await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Sends the mail that asks for the proof of the actor's address, or of the one that it shall change to, once more.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] where there is nothing to prove.
    pub async fn resend_proof(&self, actor: &Actor) -> Result<(), ControlError> {
        let now = self.now();
        let user = self.db.lookup_user(actor.tenant).await?.ok_or(ControlError::NotFound)?;
        let pending = self.db.lookup_verification(user.id, now).await?.map(|row| row.email);
        let email = match pending {
            Some(pending) => pending,
            None if user.email_verified_at.is_none() => user.email,
            None => return Err(ControlError::Conflict("your address is confirmed already".into())),
        };
        let mut tx = self.db.write().await?;
        self.ask_for_proof(&mut tx, user.id, &email, now).await?;
        tx.insert_audit(&actor.entry("account.resend_proof", user.id, now)).await?;
        Ok(tx.commit().await?)
    }

    /// Mails a fresh token to an address of the account; those that were mailed before are of no use any more.
    pub(super) async fn ask_for_proof(
        &self,
        tx: &mut Tx,
        user: UserId,
        email: &str,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        tx.delete_account_tokens(user, TokenPurpose::VerifyEmail).await?;
        let token = self.mint_token(tx, user, TokenPurpose::VerifyEmail, email, now + PROOF_TTL).await?;
        self.post(tx, Some(user), email, Letter::VerifyEmail { token }, now).await
    }

    /// Makes a token that is about to be mailed to `email`; only its hash is kept.
    pub(super) async fn mint_token(
        &self,
        tx: &mut Tx,
        user: UserId,
        purpose: TokenPurpose,
        email: &str,
        expires_at: Timestamp,
    ) -> Result<String, ControlError> {
        let token = random_token().expose_secret().to_owned();
        tx.insert_account_token(&NewAccountToken {
            token_hash: mailed_token_hash(&token),
            user_id: user,
            purpose,
            email: email.to_owned(),
            created_at: self.now(),
            expires_at,
        })
        .await?;
        Ok(token)
    }

    /// Uses a mailed token up.
    pub(super) async fn take(
        &self,
        tx: &mut Tx,
        token: &SecretString,
        purpose: TokenPurpose,
        now: Timestamp,
    ) -> Result<reef_db::AccountTokenRow, ControlError> {
        tx.take_account_token(&mailed_token_hash(token.expose_secret().trim()), purpose, now)
            .await?
            .ok_or_else(bad_token)
    }
}

/// The token of a mail is of no use: which of the reasons is not told.
pub(super) fn bad_token() -> ControlError {
    invalid("token", "this link was used already, has ended or is not whole: ask for another mail")
}

/// Says that another account has the address.
pub(super) fn taken(error: DbError) -> ControlError {
    match error {
        DbError::Conflict(Unique::UserEmail) => {
            ControlError::Conflict("another account has this e-mail address".into())
        }
        error => error.into(),
    }
}
