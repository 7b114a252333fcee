//! Invites, and the entitlements that they and subscriptions give.

use reef_model::{
    EntitlementId, EntitlementSource, InstanceId, InviteId, InviteKind, Plan, Timestamp, UserId,
};

use crate::{Page, Sql, statement::statements};

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct InviteRow {
    /// The id.
    pub id: InviteId,
    /// The last group of the code, to tell invites apart.
    pub code_hint: String,
    /// What it gives.
    pub kind: InviteKind,
    /// The plan of what it gives.
    pub plan: Plan,
    /// How often it may be redeemed.
    pub max_uses: i64,
    /// How often it was.
    pub uses: i64,
    /// The operator who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A new invite.
#[derive(Debug, Clone)]
pub struct NewInvite {
    /// The id.
    pub id: InviteId,
    /// SHA-256 of the normalised code.
    pub code_hash: [u8; 32],
    /// The last group of the code.
    pub code_hint: String,
    /// What it gives.
    pub kind: InviteKind,
    /// The plan of what it gives.
    pub plan: Plan,
    /// How often it may be redeemed, at least once.
    pub max_uses: i64,
    /// The operator.
    pub created_by: UserId,
    /// Now.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A right to hold one instance.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct EntitlementRow {
    /// The id.
    pub id: EntitlementId,
    /// The tenant.
    pub user_id: UserId,
    /// The plan that it gives.
    pub plan: Plan,
    /// Where it came from.
    pub source: EntitlementSource,
    /// Which invite or subscription.
    pub source_id: Option<String>,
    /// The instance that holds it; `None` while it is free.
    pub instance_id: Option<InstanceId>,
    /// When it was given.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A new entitlement, free.
#[derive(Debug, Clone)]
pub struct NewEntitlement {
    /// The id.
    pub id: EntitlementId,
    /// The tenant.
    pub user_id: UserId,
    /// The plan that it gives.
    pub plan: Plan,
    /// Where it comes from.
    pub source: EntitlementSource,
    /// Which invite or subscription.
    pub source_id: Option<String>,
    /// Now.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

macro_rules! invite_columns {
    () => {
        "id, code_hint, kind, plan, max_uses, uses, created_by, created_at, expires_at, revoked_at"
    };
}

macro_rules! entitlement_columns {
    () => {
        "id, user_id, plan, source, source_id, instance_id, created_at, expires_at"
    };
}

// Prefers a slot that ends soonest; `FOR UPDATE` makes a racing claim take the next slot.
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "UPDATE entitlements SET instance_id = $2 WHERE instance_id IS NULL AND id = (\
             SELECT id FROM entitlements WHERE user_id = $1 AND instance_id IS NULL \
             AND (expires_at IS NULL OR expires_at > $3) AND plan = COALESCE($4, plan) \
             ORDER BY CASE WHEN expires_at IS NULL THEN 1 ELSE 0 END, expires_at, id LIMIT 1",
            $lock,
            ") RETURNING ",
            entitlement_columns!()
        )
    };
}

statements! {
    /// Returns a page of all invites, newest first.
    pub Db.list_invites(page: Page) -> Vec<InviteRow>
        = Sql::same(concat!("SELECT ", invite_columns!(), " FROM invites WHERE id < $1 ORDER BY id DESC LIMIT $2")),
        [page.bound(), page.limit];

    /// Returns a page of the tenant's entitlements, newest first, held and free.
    pub Db.list_entitlements(tenant: UserId, page: Page) -> Vec<EntitlementRow>
        = Sql::same(concat!(
            "SELECT ", entitlement_columns!(), " FROM entitlements WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        )),
        [tenant, page.bound(), page.limit];

    /// Inserts an invite.
    pub Tx.insert_invite(new: &NewInvite) -> One<InviteRow>
        = Sql::same(concat!(
            "INSERT INTO invites (id, code_hash, code_hint, kind, plan, max_uses, created_by, created_at, expires_at, uses) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) RETURNING ",
            invite_columns!()
        )),
        [new.id, &new.code_hash[..], &new.code_hint, new.kind, new.plan, new.max_uses, new.created_by, new.created_at,
         new.expires_at];

    /// Revokes an invite; `None`: not there, or revoked before.
    pub Tx.revoke_invite(id: InviteId, now: Timestamp) -> Option<InviteRow>
        = Sql::same(concat!(
            "UPDATE invites SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING ", invite_columns!()
        )),
        [id, now];

    /// Uses an invite once, atomically; `None`: no such code, used up, expired or revoked.
    pub Tx.redeem_invite(code_hash: &[u8; 32], now: Timestamp) -> Option<InviteRow>
        = Sql::same(concat!(
            "UPDATE invites SET uses = uses + 1 WHERE code_hash = $1 AND uses < max_uses AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2) RETURNING ",
            invite_columns!()
        )),
        [&code_hash[..], now];

    /// Inserts a free entitlement.
    pub Tx.insert_entitlement(new: &NewEntitlement) -> One<EntitlementRow>
        = Sql::same(concat!(
            "INSERT INTO entitlements (id, user_id, plan, source, source_id, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ",
            entitlement_columns!()
        )),
        [new.id, new.user_id, new.plan, new.source, new.source_id.as_deref(), new.created_at, new.expires_at];

    /// Gives a free, unexpired entitlement of the tenant to an instance, atomically; of `plan`, or of any. `None`: there
    /// is none, so the instance may not be.
    pub Tx.claim_entitlement(tenant: UserId, instance: InstanceId, plan: Option<Plan>, now: Timestamp) -> Option<EntitlementRow>
        = Sql::differing(claim!(""), claim!(" FOR UPDATE SKIP LOCKED")),
        [tenant, instance, now, plan];

    /// Frees the entitlement that an instance holds.
    pub Tx.release_entitlement(tenant: UserId, instance: InstanceId) -> Count
        = Sql::same("UPDATE entitlements SET instance_id = NULL WHERE user_id = $1 AND instance_id = $2"),
        [tenant, instance];

    /// Removes the free entitlements of an account; those that a transaction is just claiming are waited for.
    pub Tx.delete_free_entitlements(tenant: UserId) -> Count
        = Sql::same("DELETE FROM entitlements WHERE user_id = $1 AND instance_id IS NULL"),
        [tenant];

    /// Removes every entitlement of an account that has no instance any more.
    pub Tx.delete_entitlements(tenant: UserId) -> Count
        = Sql::same("DELETE FROM entitlements WHERE user_id = $1"),
        [tenant];

    /// Hands the invites that an account made to another one.
    pub Tx.hand_over_invites(from: UserId, to: UserId) -> Count
        = Sql::same("UPDATE invites SET created_by = $2 WHERE created_by = $1"),
        [from, to];
}
