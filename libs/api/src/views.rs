//! What resources look like from outside: never a row itself, so that a new column cannot leak.

use reef_config::Origin;
use reef_control::{Event, EventKind};
use reef_db::{
    ApiKeyRow, AuditRow, EntitlementRow, InstanceRow, InviteRow, MailRow, OperationRow, OwnedInstance,
    SessionRow, UserRow, UserSummary,
};
use reef_model::{
    ActorKind, ApiKeyId, AuditId, Desired, EntitlementId, InstanceId, InviteId, InviteKind, Isolation,
    MailId, OperationId, OperationKind, OperationStatus, Plan, Power, Role, RuntimeKind, Scopes, SessionId,
    Status, Timestamp, UserId,
};
use serde::Serialize;
use utoipa::ToSchema;

/// An OpenClaw instance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Instance {
    /// Its id.
    id: InstanceId,
    /// Its owner's name for it.
    name: String,
    /// What it does.
    status: Status,
    /// Why, and what to do, where that is not plain.
    status_reason: Option<String>,
    /// What its processes do.
    power: Power,
    /// How it is kept apart from the others; null before its first start.
    isolation: Option<Isolation>,
    /// The plan that its limits come from.
    plan: Plan,
    /// Where it runs.
    runtime: RuntimeKind,
    /// Its image; null: the runtime's own.
    image: Option<String>,
    /// What its gateway reports.
    openclaw_version: Option<String>,
    /// The runtime's own handle.
    sandbox_id: Option<String>,
    /// Its address in this API.
    url: String,
    /// What its owner wants.
    desired: Desired,
    /// Counts the starts that were asked for.
    generation: i64,
    /// Idle time before it sleeps; null: it never does.
    idle_timeout_seconds: Option<i64>,
    /// When it was made.
    created_at: Timestamp,
    /// When it last changed; also its `ETag`.
    updated_at: Timestamp,
    /// When its processes were started.
    started_at: Option<Timestamp>,
    /// When it was last used.
    last_active_at: Option<Timestamp>,
    /// When it first was ready.
    provisioned_at: Option<Timestamp>,
    /// When it was deleted; null unless it can still be restored.
    deleted_at: Option<Timestamp>,
    /// Until when it can be restored.
    restorable_until: Option<Timestamp>,
}

impl Instance {
    pub(crate) fn of(row: InstanceRow, origin: &Origin) -> Self {
        Self {
            url: format!("{origin}/api/instances/{}", row.id),
            id: row.id,
            name: row.name,
            status: row.status,
            status_reason: row.status_reason,
            power: row.power,
            isolation: row.isolation,
            plan: row.plan,
            runtime: row.runtime,
            image: row.image,
            openclaw_version: row.openclaw_version,
            sandbox_id: row.sandbox_id,
            desired: row.desired,
            generation: row.generation,
            idle_timeout_seconds: row.idle_timeout_seconds,
            created_at: row.created_at,
            updated_at: row.updated_at,
            started_at: row.started_at,
            last_active_at: row.last_active_at,
            provisioned_at: row.provisioned_at,
            deleted_at: row.deleted_at,
            restorable_until: row.purge_at,
        }
    }
}

/// A long verb on an instance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Operation {
    /// Its id.
    id: OperationId,
    /// What it does.
    kind: OperationKind,
    /// On which instance.
    instance_id: InstanceId,
    /// How it stands.
    status: OperationStatus,
    /// Percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: i64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OperationFailure>,
    /// When it was asked for.
    created_at: Timestamp,
    /// When it ended.
    finished_at: Option<Timestamp>,
}

/// Why an operation failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OperationFailure {
    /// A word: `start_failed`, `superseded`.
    code: String,
    /// What happened and what to do.
    message: String,
}

impl From<OperationRow> for Operation {
    fn from(row: OperationRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            instance_id: row.instance_id,
            status: row.status,
            progress: row.progress,
            error: row.error.map(|error| OperationFailure { code: error.0.code, message: error.0.message }),
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

/// The data of an event on `…/events`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LifecycleEvent {
    /// `instance.updated`: what it is by now; the first event of every stream.
    Updated {
        /// The instance.
        instance: Box<Instance>,
    },
    /// `instance.purged`: it and its data are gone.
    Purged {
        /// Which.
        instance_id: InstanceId,
    },
    /// `operation.updated`: one began or ended.
    Operation {
        /// The operation.
        operation: Operation,
    },
}

impl LifecycleEvent {
    pub(crate) fn of(event: &Event, origin: &Origin) -> Self {
        match &event.kind {
            EventKind::Instance(row) => {
                Self::Updated { instance: Box::new(Instance::of((**row).clone(), origin)) }
            }
            EventKind::Purged => Self::Purged { instance_id: event.instance_id },
            EventKind::Operation(row) => Self::Operation { operation: (**row).clone().into() },
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Updated { .. } => "instance.updated",
            Self::Purged { .. } => "instance.purged",
            Self::Operation { .. } => "operation.updated",
        }
    }
}

/// An account.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct User {
    /// Its id.
    id: UserId,
    /// Its address.
    email: String,
    /// Whether that was proven to be its holder's.
    email_verified: bool,
    /// What to call its holder.
    name: Option<String>,
    /// `user` or `operator`.
    role: Role,
    /// When it was made.
    created_at: Timestamp,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            email_verified: row.email_verified_at.is_some(),
            name: row.name,
            role: row.role,
            created_at: row.created_at,
        }
    }
}

/// An account as an operator sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UserStanding {
    /// The account.
    #[serde(flatten)]
    user: User,
    /// Since when an operator keeps it from being used; null: it is not kept.
    locked_at: Option<Timestamp>,
}

impl From<UserRow> for UserStanding {
    fn from(row: UserRow) -> Self {
        Self { locked_at: row.locked_at, user: row.into() }
    }
}

/// An account in the operator's list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ListedUser {
    /// The account.
    #[serde(flatten)]
    user: UserStanding,
    /// How many instances it has.
    instance_count: i64,
}

impl From<UserSummary> for ListedUser {
    fn from(row: UserSummary) -> Self {
        Self { user: row.user.into(), instance_count: row.instances }
    }
}

/// An instance in the operator's list: whose it is and how it does, and nothing of what is in it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ListedInstance {
    /// Its id.
    id: InstanceId,
    /// Its owner's name for it.
    name: String,
    /// Its owner.
    owner_id: UserId,
    /// The owner's address.
    owner_email: String,
    /// What it does.
    status: Status,
    /// Why, and what to do, where that is not plain.
    status_reason: Option<String>,
    /// What its owner wants.
    desired: Desired,
    /// The plan that its limits come from.
    plan: Plan,
    /// Where it runs.
    runtime: RuntimeKind,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last used.
    last_active_at: Option<Timestamp>,
    /// When it was deleted; null unless it can still be restored.
    deleted_at: Option<Timestamp>,
}

impl From<OwnedInstance> for ListedInstance {
    fn from(row: OwnedInstance) -> Self {
        let OwnedInstance { instance, owner_email } = row;
        Self {
            id: instance.id,
            name: instance.name,
            owner_id: instance.user_id,
            owner_email,
            status: instance.status,
            status_reason: instance.status_reason,
            desired: instance.desired,
            plan: instance.plan,
            runtime: instance.runtime,
            created_at: instance.created_at,
            last_active_at: instance.last_active_at,
            deleted_at: instance.deleted_at,
        }
    }
}

/// A browser session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Session {
    /// Its id; not the cookie's value.
    id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    /// From where it was begun.
    ip: Option<String>,
    /// With which browser.
    user_agent: Option<String>,
    /// When it was begun.
    created_at: Timestamp,
    /// When it was last used.
    last_seen_at: Timestamp,
    /// When it ends.
    expires_at: Timestamp,
}

impl Session {
    pub(crate) fn of(row: SessionRow, current: Option<SessionId>) -> Self {
        Self {
            current: Some(row.id) == current,
            id: row.id,
            ip: row.ip,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
        }
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ApiKey {
    /// Its id.
    id: ApiKeyId,
    /// Its owner's name for it.
    name: String,
    /// How the secret begins.
    #[schema(example = "sk_live_3fK9")]
    prefix: String,
    /// How it ends.
    last4: String,
    /// What it may do.
    scopes: Scopes,
    /// On which instances; null: on all.
    instance_ids: Option<Vec<InstanceId>>,
    /// From which addresses; null: from any.
    ip_allow: Option<Vec<String>>,
    /// When it ends; null: never.
    expires_at: Option<Timestamp>,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last used, to a few seconds.
    last_used_at: Option<Timestamp>,
    /// From where.
    last_used_ip: Option<String>,
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            last4: row.last4,
            scopes: row.scopes,
            instance_ids: row.instance_ids.map(|ids| ids.0),
            ip_allow: row.ip_allow.map(|list| list.0),
            expires_at: row.expires_at,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            last_used_ip: row.last_used_ip,
        }
    }
}

/// A key that was just made: the only time that its secret is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct MintedKey {
    /// The key.
    #[serde(flatten)]
    pub(crate) key: ApiKey,
    /// The secret; keep it now, it is not shown again, not even to a repeated request with the same `Idempotency-Key`.
    #[schema(example = "sk_live_3fK9…", required = false)]
    pub(crate) secret: String,
}

/// An invite, without its code.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Invite {
    /// Its id.
    id: InviteId,
    /// The last group of the code.
    code_hint: String,
    /// What it gives.
    kind: InviteKind,
    /// The plan of what it gives.
    plan: Plan,
    /// How often it may be redeemed.
    max_uses: i64,
    /// How often it was.
    uses: i64,
    /// When it was made.
    created_at: Timestamp,
    /// When it ends; null: never.
    expires_at: Option<Timestamp>,
    /// When it was withdrawn.
    revoked_at: Option<Timestamp>,
}

impl From<InviteRow> for Invite {
    fn from(row: InviteRow) -> Self {
        Self {
            id: row.id,
            code_hint: row.code_hint,
            kind: row.kind,
            plan: row.plan,
            max_uses: row.max_uses,
            uses: row.uses,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// An invite that was just made: the only time that its code is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct MintedInvite {
    /// The invite.
    #[serde(flatten)]
    pub(crate) invite: Invite,
    /// The code to give away; a repeated request with the same `Idempotency-Key` does not get it.
    #[schema(required = false)]
    pub(crate) code: String,
}

/// A right to hold one instance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Entitlement {
    /// Its id.
    id: EntitlementId,
    /// The plan that it gives.
    plan: Plan,
    /// The instance that holds it; null while it is free.
    instance_id: Option<InstanceId>,
    /// When it was given.
    created_at: Timestamp,
    /// When it ends; null: never.
    expires_at: Option<Timestamp>,
}

impl From<EntitlementRow> for Entitlement {
    fn from(row: EntitlementRow) -> Self {
        Self {
            id: row.id,
            plan: row.plan,
            instance_id: row.instance_id,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// A mail that is not sent: waiting, or given up.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WaitingMail {
    /// Its id.
    id: MailId,
    /// What kind of letter: `reset_password` for instance.
    kind: String,
    /// To whom.
    recipient: String,
    /// How often it was tried.
    attempts: i64,
    /// When it is tried next; null: it was given up.
    next_attempt_at: Option<Timestamp>,
    /// Why the last try failed.
    last_error: Option<String>,
    /// When it was written.
    created_at: Timestamp,
    /// Until when it is tried.
    deadline_at: Timestamp,
}

impl From<MailRow> for WaitingMail {
    fn from(row: MailRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            recipient: row.recipient,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            last_error: row.last_error,
            created_at: row.created_at,
            deadline_at: row.deadline_at,
        }
    }
}

/// What was done by whom.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditRecord {
    /// Its id.
    id: AuditId,
    /// What kind of actor.
    actor_kind: ActorKind,
    /// The account's or key's id.
    actor_id: Option<String>,
    /// What was done, `key.create` for instance.
    action: String,
    /// To what.
    target: Option<String>,
    /// More.
    #[schema(value_type = Object)]
    details: serde_json::Value,
    /// In which request.
    request_id: Option<String>,
    /// From where.
    ip: Option<String>,
    /// When.
    at: Timestamp,
}

impl AuditRecord {
    /// What the account's holder sees: not from where the operator acted on it.
    pub(crate) fn for_holder(row: AuditRow) -> Self {
        let is_theirs = row.user_id.is_some_and(|tenant| row.actor_id == Some(tenant.to_string()));
        let is_operators = row.actor_kind == ActorKind::Operator && !is_theirs;
        Self { ip: row.ip.clone().filter(|_| !is_operators), ..row.into() }
    }
}

impl From<AuditRow> for AuditRecord {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            action: row.action,
            target: row.target,
            details: row.details.0,
            request_id: row.request_id,
            ip: row.ip,
            at: row.at,
        }
    }
}
