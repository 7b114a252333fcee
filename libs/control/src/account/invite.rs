//! Invites: made and withdrawn by the operator, redeemed for entitlements.

use reef_auth::{Email, InviteCode};
use reef_db::{EntitlementRow, InviteRow, NewEntitlement, NewInvite, Tx};
use reef_mail::Letter;
use reef_model::{EntitlementId, EntitlementSource, InviteId, InviteKind, Plan, Timestamp, UserId};

use super::{Accounts, invalid};
use crate::{Actor, ControlError};

const MAX_USES: i64 = 1_000_000;

/// What an invite gives, how often and how long.
#[derive(Debug, Clone, Copy)]
pub struct InviteTerms {
    /// The plan of the instance that it gives the right to.
    pub plan: Plan,
    /// How often it may be redeemed, 1 to a million.
    pub max_uses: i64,
    /// When it ends; none: never.
    pub expires_at: Option<Timestamp>,
}

impl Accounts {
    /// Makes an invite. The code is shown once.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field.
    pub async fn create_invite(
        &self,
        actor: &Actor,
        terms: InviteTerms,
    ) -> Result<(InviteRow, InviteCode), ControlError> {
        self.invite(actor, terms, None).await
    }

    /// Makes an invite and mails its code to an address.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field.
    pub async fn send_invite(
        &self,
        actor: &Actor,
        terms: InviteTerms,
        email: &str,
    ) -> Result<(InviteRow, InviteCode), ControlError> {
        let email = email.parse().map_err(|error| invalid("email", format!("{error}")))?;
        self.invite(actor, terms, Some(email)).await
    }

    async fn invite(
        &self,
        actor: &Actor,
        terms: InviteTerms,
        email: Option<Email>,
    ) -> Result<(InviteRow, InviteCode), ControlError> {
        let now = self.now();
        if !(1..=MAX_USES).contains(&terms.max_uses) {
            return Err(invalid("max_uses", format!("give 1 to {MAX_USES}")));
        }
        if terms.expires_at.is_some_and(|end| end <= now) {
            return Err(invalid("expires_at", "give an instant that is still to come"));
        }
        let code = InviteCode::generate();
        let new = NewInvite {
            id: InviteId::generate(),
            code_hash: code.hash(),
            code_hint: code.hint().to_owned(),
            kind: InviteKind::Instance,
            plan: terms.plan,
            max_uses: terms.max_uses,
            created_by: actor.tenant,
            created_at: now,
            expires_at: terms.expires_at,
        };
        let mut tx = self.db.write().await?;
        let row = tx.insert_invite(&new).await?;
        if let Some(email) = email {
            let letter =
                Letter::Invite { code: code.expose(), plan: terms.plan, expires_at: terms.expires_at };
            self.post(&mut tx, None, email.as_str(), letter, now).await?;
        }
        tx.insert_audit(&actor.entry("invite.create", row.id, now)).await?;
        tx.commit().await?;
        Ok((row, code))
    }

    /// Withdraws an invite; what was redeemed stays.
    ///
    /// # Errors
    /// [`ControlError::NotFound`].
    pub async fn revoke_invite(&self, actor: &Actor, id: InviteId) -> Result<(), ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        tx.revoke_invite(id, now).await?.ok_or(ControlError::NotFound)?;
        tx.insert_audit(&actor.entry("invite.revoke", id, now)).await?;
        Ok(tx.commit().await?)
    }

    /// Redeems a code for an entitlement of the actor's account.
    ///
    /// # Errors
    /// [`ControlError::InviteInvalid`].
    pub async fn redeem_invite(&self, actor: &Actor, code: &str) -> Result<EntitlementRow, ControlError> {
        let code = code.parse().map_err(|_| ControlError::InviteInvalid)?;
        let now = self.now();
        let mut tx = self.db.write().await?;
        let row = redeem(&mut tx, actor.tenant, code, now).await?;
        tx.insert_audit(&actor.entry("invite.redeem", row.id, now)).await?;
        tx.commit().await?;
        Ok(row)
    }
}

/// Uses a code once and gives the tenant what it is good for, in the caller's transaction.
pub(crate) async fn redeem(
    tx: &mut Tx,
    tenant: UserId,
    code: InviteCode,
    now: Timestamp,
) -> Result<EntitlementRow, ControlError> {
    let invite = tx.redeem_invite(&code.hash(), now).await?.ok_or(ControlError::InviteInvalid)?;
    let new = NewEntitlement {
        id: EntitlementId::generate(),
        user_id: tenant,
        plan: invite.plan,
        source: EntitlementSource::Invite,
        source_id: Some(invite.id.to_string()),
        created_at: now,
        expires_at: None,
    };
    Ok(tx.insert_entitlement(&new).await?)
}
