//! Instances: intent by the verbs, facts by the reconciler.

use reef_model::{
    Desired, InstanceId, Isolation, Plan, Power, RuntimeKind, SleepTarget, Status, Timestamp, UserId,
};

use crate::{DbError, Page, Sql, Tx, Wake, statement::statements};

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct InstanceRow {
    /// The id.
    pub id: InstanceId,
    /// The tenant.
    pub user_id: UserId,
    /// The owner's name for it, 1–100 characters.
    pub name: String,
    /// The plan that its limits come from.
    pub plan: Plan,
    /// Where it runs.
    pub runtime: RuntimeKind,
    /// The image; `None`: the runtime's own default.
    pub image: Option<String>,
    /// Environment for the tenant's processes, encrypted.
    pub env_enc: Vec<u8>,
    /// Idle time before it sleeps, at least 1; `None`: it never sleeps.
    pub idle_timeout_seconds: Option<i64>,
    /// Control plane to door, encrypted.
    pub door_token_enc: Vec<u8>,
    /// Door to OpenClaw gateway, encrypted.
    pub gateway_token_enc: Vec<u8>,
    /// Intent: what the owner wants.
    pub desired: Desired,
    /// Intent: how deep it may sleep now.
    pub sleep_target: SleepTarget,
    /// Intent: counts starts that were asked for; from 1.
    pub generation: i64,
    /// Intent: when it was deleted; set exactly while `desired` is deleted.
    pub deleted_at: Option<Timestamp>,
    /// Intent: when its data goes; set exactly while `desired` is deleted.
    pub purge_at: Option<Timestamp>,
    /// Fact.
    pub status: Status,
    /// Fact: why, in words that the owner can act on.
    pub status_reason: Option<String>,
    /// Fact: what its processes do.
    pub power: Power,
    /// Fact: how it is kept apart; `None` before its first start.
    pub isolation: Option<Isolation>,
    /// Fact: the version that its gateway reports.
    pub openclaw_version: Option<String>,
    /// Fact: the runtime's own handle.
    pub sandbox_id: Option<String>,
    /// Fact: the generation that was last converged; 0: none.
    pub observed_generation: i64,
    /// Fact: when its processes were started.
    pub started_at: Option<Timestamp>,
    /// Fact: when it first was ready.
    pub provisioned_at: Option<Timestamp>,
    /// Fact: failed attempts in a row.
    pub failures: i64,
    /// Fact: not to be tried again before this instant.
    pub retry_at: Option<Timestamp>,
    /// When it was last used; written in batches.
    pub last_active_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When intent, facts or settings last changed; the row's version for `If-Match`.
    pub updated_at: Timestamp,
}

impl InstanceRow {
    /// Returns the facts as they are recorded, to change some: `Fact { status: Status::Ready, ..row.fact() }`.
    pub fn fact(&self) -> Fact {
        Fact {
            status: self.status,
            status_reason: self.status_reason.clone(),
            power: self.power,
            isolation: self.isolation,
            openclaw_version: self.openclaw_version.clone(),
            sandbox_id: self.sandbox_id.clone(),
            observed_generation: self.observed_generation,
            started_at: self.started_at,
            provisioned_at: self.provisioned_at,
            failures: self.failures,
            retry_at: self.retry_at,
        }
    }
}

/// An instance as operators list it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OwnedInstance {
    /// The instance.
    #[sqlx(flatten)]
    pub instance: InstanceRow,
    /// Its owner's address.
    pub owner_email: String,
}

/// What a new instance begins with; its facts begin as provisioning, stopped and never observed.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// The id.
    pub id: InstanceId,
    /// The tenant.
    pub user_id: UserId,
    /// The owner's name for it, 1–100 characters.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// Where it will run.
    pub runtime: RuntimeKind,
    /// The image, where not the runtime's own.
    pub image: Option<String>,
    /// Environment for the tenant's processes, encrypted.
    pub env_enc: Vec<u8>,
    /// Idle time before it sleeps.
    pub idle_timeout_seconds: Option<i64>,
    /// Control plane to door, encrypted.
    pub door_token_enc: Vec<u8>,
    /// Door to OpenClaw gateway, encrypted.
    pub gateway_token_enc: Vec<u8>,
    /// What the owner wants first: running, mostly.
    pub desired: Desired,
    /// Now.
    pub created_at: Timestamp,
}

/// The whole of an instance's intent, as a verb leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntentChange {
    /// What is wanted.
    pub desired: Desired,
    /// How deep it may sleep.
    pub sleep_target: SleepTarget,
    /// Whether processes that run must be replaced: a start, a restart.
    pub bump_generation: bool,
    /// Set exactly with `Desired::Deleted`.
    pub deleted_at: Option<Timestamp>,
    /// Set exactly with `Desired::Deleted`.
    pub purge_at: Option<Timestamp>,
}

impl IntentChange {
    /// Awake and `desired`, in a new generation; not deleted.
    pub const fn to(desired: Desired) -> Self {
        Self {
            desired,
            sleep_target: SleepTarget::Awake,
            bump_generation: true,
            deleted_at: None,
            purge_at: None,
        }
    }
}

/// What an owner changes about an instance; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct InstanceChange {
    /// The name.
    pub name: Option<String>,
    /// The idle time; `Some(None)`: never sleep.
    pub idle_timeout_seconds: Option<Option<i64>>,
    /// The environment, whole; takes effect at the next start.
    pub env_enc: Option<Vec<u8>>,
    /// Only where the row still has this `updated_at` (`If-Match`).
    pub expected_updated_at: Option<Timestamp>,
}

/// The whole of an instance's facts, as the reconciler saw them; see [`InstanceRow`] for each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "said at the fields of InstanceRow")]
pub struct Fact {
    pub status: Status,
    pub status_reason: Option<String>,
    pub power: Power,
    pub isolation: Option<Isolation>,
    pub openclaw_version: Option<String>,
    pub sandbox_id: Option<String>,
    pub observed_generation: i64,
    pub started_at: Option<Timestamp>,
    pub provisioned_at: Option<Timestamp>,
    pub failures: i64,
    pub retry_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "id, user_id, name, plan, runtime, image, env_enc, idle_timeout_seconds, door_token_enc, gateway_token_enc, \
         desired, sleep_target, generation, deleted_at, purge_at, status, status_reason, power, isolation, \
         openclaw_version, sandbox_id, observed_generation, started_at, provisioned_at, failures, retry_at, \
         last_active_at, created_at, updated_at"
    };
}

statements! {
    /// Returns an instance of `tenant`; soft-deleted ones too.
    pub Db.lookup_instance(tenant: UserId, id: InstanceId) -> Option<InstanceRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM instances WHERE user_id = $1 AND id = $2")),
        [tenant, id];

    /// Returns an instance whoever owns it, for reconcilers and operators.
    pub Db.lookup_instance_any(id: InstanceId) -> Option<InstanceRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM instances WHERE id = $1")),
        [id];

    /// Returns a page of the tenant's instances, newest first, without soft-deleted ones.
    pub Db.list_instances(tenant: UserId, page: Page) -> Vec<InstanceRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM instances WHERE user_id = $1 AND id < $2 AND deleted_at IS NULL \
             ORDER BY id DESC LIMIT $3"
        )),
        [tenant, page.bound(), page.limit];

    /// Returns a page of the tenant's soft-deleted instances that can still be restored at `now`, newest first.
    pub Db.list_restorable_instances(tenant: UserId, now: Timestamp, page: Page) -> Vec<InstanceRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM instances WHERE user_id = $1 AND purge_at > $2 AND id < $3 ORDER BY id DESC LIMIT $4"
        )),
        [tenant, now, page.bound(), page.limit];

    /// Returns every instance that is not purged, oldest first, from behind `after`.
    pub Db.list_instances_any(after: Option<InstanceId>, limit: i64) -> Vec<InstanceRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM instances WHERE id > $1 ORDER BY id LIMIT $2")),
        [after.map_or(uuid::Uuid::nil(), InstanceId::as_uuid), limit];

    /// Returns a page of all instances that are not purged, newest first, with their owners' addresses, for operators.
    pub Db.list_owned_instances_any(page: Page) -> Vec<OwnedInstance>
        = Sql::same(concat!(
            "SELECT ", columns!(), ", (SELECT email FROM users WHERE users.id = instances.user_id) AS owner_email \
             FROM instances WHERE id < $1 ORDER BY id DESC LIMIT $2"
        )),
        [page.bound(), page.limit];

    /// Returns instances with work to do at `now`: intent that was not converged, a status on its way, an error whose
    /// time to try again has come, a restore window that is over. Those that must wait until later are left out.
    pub Db.list_due_instances(now: Timestamp, limit: i64) -> Vec<InstanceRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM instances WHERE (retry_at IS NULL OR retry_at <= $1) AND (\
             observed_generation < generation \
             OR status NOT IN ('ready', 'stopped', 'error', 'deleted') \
             OR retry_at IS NOT NULL \
             OR purge_at <= $1) ORDER BY updated_at, id LIMIT $2"
        )),
        [now, limit];

    /// Returns instances whose intent, facts or settings changed after `since`, in the order of their changes.
    pub Db.list_changed_instances(since: Timestamp, limit: i64) -> Vec<InstanceRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM instances WHERE updated_at > $1 ORDER BY updated_at, id LIMIT $2"
        )),
        [since, limit];

    /// Returns an instance of `tenant` and keeps other transactions from changing it until this one ends.
    pub Tx.lookup_instance(tenant: UserId, id: InstanceId) -> Option<InstanceRow>
        = Sql::differing(
            concat!("SELECT ", columns!(), " FROM instances WHERE user_id = $1 AND id = $2"),
            concat!("SELECT ", columns!(), " FROM instances WHERE user_id = $1 AND id = $2 FOR UPDATE"),
        ),
        [tenant, id];

    /// Returns an instance whoever owns it and keeps other transactions from changing it until this one ends.
    pub Tx.lookup_instance_any(id: InstanceId) -> Option<InstanceRow>
        = Sql::differing(
            concat!("SELECT ", columns!(), " FROM instances WHERE id = $1"),
            concat!("SELECT ", columns!(), " FROM instances WHERE id = $1 FOR UPDATE"),
        ),
        [id];

    /// Returns the instances of `tenant` that are not soft-deleted.
    pub Tx.list_instance_ids(tenant: UserId) -> Vec<(InstanceId,)>
        = Sql::same("SELECT id FROM instances WHERE user_id = $1 AND deleted_at IS NULL ORDER BY id"),
        [tenant];

    pub(crate) Tx.create_instance(new: &NewInstance) -> One<InstanceRow>
        = Sql::same(concat!(
            "INSERT INTO instances (id, user_id, name, plan, runtime, image, env_enc, idle_timeout_seconds, \
             door_token_enc, gateway_token_enc, desired, created_at, updated_at, sleep_target, generation, status, \
             power, observed_generation, failures) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, 'awake', 1, 'provisioning', 'stopped', 0, 0) \
             RETURNING ", columns!()
        )),
        [new.id, new.user_id, &new.name, new.plan, new.runtime, new.image.as_deref(), &new.env_enc,
         new.idle_timeout_seconds, &new.door_token_enc, &new.gateway_token_enc, new.desired, new.created_at];

    pub(crate) Tx.change_intent(tenant: UserId, id: InstanceId, to: IntentChange, now: Timestamp) -> Option<InstanceRow>
        = Sql::same(concat!(
            "UPDATE instances SET desired = $3, sleep_target = $4, generation = generation + $5, deleted_at = $6, \
             purge_at = $7, failures = 0, retry_at = NULL, updated_at = $8 WHERE user_id = $1 AND id = $2 RETURNING ",
            columns!()
        )),
        [tenant, id, to.desired, to.sleep_target, i64::from(to.bump_generation), to.deleted_at, to.purge_at, now];

    pub(crate) Tx.change_settings(tenant: UserId, id: InstanceId, change: &InstanceChange, now: Timestamp) -> Option<InstanceRow>
        = Sql::same(concat!(
            "UPDATE instances SET name = COALESCE($3, name), env_enc = COALESCE($4, env_enc), \
             idle_timeout_seconds = CASE WHEN $5 = 1 THEN $6 ELSE idle_timeout_seconds END, updated_at = $7 \
             WHERE user_id = $1 AND id = $2 AND deleted_at IS NULL AND updated_at = COALESCE($8, updated_at) RETURNING ",
            columns!()
        )),
        [tenant, id, change.name.as_deref(), change.env_enc.as_deref(),
         i64::from(change.idle_timeout_seconds.is_some()), change.idle_timeout_seconds.flatten(), now,
         change.expected_updated_at];

    pub(crate) Tx.change_fact(id: InstanceId, fact: &Fact, now: Timestamp) -> Option<InstanceRow>
        = Sql::same(concat!(
            "UPDATE instances SET status = $2, status_reason = $3, power = $4, isolation = $5, openclaw_version = $6, \
             sandbox_id = $7, observed_generation = $8, started_at = $9, provisioned_at = $10, failures = $11, \
             retry_at = $12, updated_at = $13 WHERE id = $1 RETURNING ",
            columns!()
        )),
        [id, fact.status, fact.status_reason.as_deref(), fact.power, fact.isolation, fact.openclaw_version.as_deref(),
         fact.sandbox_id.as_deref(), fact.observed_generation, fact.started_at, fact.provisioned_at, fact.failures,
         fact.retry_at, now];

    /// Records that the instance was used at `at`; never moves backwards, and is no new version of the row.
    pub Tx.record_activity(id: InstanceId, at: Timestamp) -> Count
        = Sql::same(
            "UPDATE instances SET last_active_at = $2 WHERE id = $1 AND (last_active_at IS NULL OR last_active_at < $2)"
        ),
        [id, at];

    pub(crate) Tx.delete_instance(id: InstanceId) -> Count
        = Sql::same("DELETE FROM instances WHERE id = $1 AND deleted_at IS NOT NULL"),
        [id];
}

impl Tx {
    /// Inserts an instance and wakes the reconciler.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn insert_instance(&mut self, new: &NewInstance) -> Result<InstanceRow, DbError> {
        let row = self.create_instance(new).await?;
        self.notify(Wake::Instances).await?;
        Ok(row)
    }

    /// Replaces the intent, makes the instance due at once and wakes the reconciler; `None`: not there.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn set_intent(
        &mut self,
        tenant: UserId,
        id: InstanceId,
        to: IntentChange,
        now: Timestamp,
    ) -> Result<Option<InstanceRow>, DbError> {
        let row = self.change_intent(tenant, id, to, now).await?;
        self.notify(Wake::Instances).await?;
        Ok(row)
    }

    /// Changes what the owner may change and wakes whoever waits for it; `None`: not there, or not as expected.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn update_instance(
        &mut self,
        tenant: UserId,
        id: InstanceId,
        change: &InstanceChange,
        now: Timestamp,
    ) -> Result<Option<InstanceRow>, DbError> {
        let row = self.change_settings(tenant, id, change, now).await?;
        self.notify(Wake::Instances).await?;
        Ok(row)
    }

    /// Removes the row of a soft-deleted instance, with its operations, once its data is gone; wakes whoever waits for that.
    /// Returns how many there were.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn purge_instance(&mut self, id: InstanceId) -> Result<u64, DbError> {
        let count = self.delete_instance(id).await?;
        self.notify(Wake::Instances).await?;
        Ok(count)
    }

    /// Replaces the facts and wakes whoever waits for them; the reconciler alone calls this. `None`: not there.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn record_fact(
        &mut self,
        id: InstanceId,
        fact: &Fact,
        now: Timestamp,
    ) -> Result<Option<InstanceRow>, DbError> {
        let row = self.change_fact(id, fact, now).await?;
        self.notify(Wake::Instances).await?;
        Ok(row)
    }
}
