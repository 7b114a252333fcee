//! Long verbs on instances.

use reef_model::{InstanceId, OperationId, OperationKind, OperationStatus, Timestamp, UserId};
use sqlx::types::Json;

use crate::{DbError, Page, Sql, Tx, Wake, statement::statements};

/// A long verb.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OperationRow {
    /// The id.
    pub id: OperationId,
    /// The tenant.
    pub user_id: UserId,
    /// The instance.
    pub instance_id: InstanceId,
    /// Which verb.
    pub kind: OperationKind,
    /// How it stands.
    pub status: OperationStatus,
    /// Percent, 0–100.
    pub progress: i64,
    /// Why it failed.
    pub error: Option<Json<OperationError>>,
    /// The instance's generation that it waits for.
    pub target_generation: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; `None` exactly while it runs.
    pub finished_at: Option<Timestamp>,
}

/// Why an operation failed, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OperationError {
    /// A word of the API's error codes.
    pub code: String,
    /// What happened and what to do next.
    pub message: String,
}

/// A verb that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewOperation {
    /// The id.
    pub id: OperationId,
    /// The tenant.
    pub user_id: UserId,
    /// The instance.
    pub instance_id: InstanceId,
    /// Which verb.
    pub kind: OperationKind,
    /// The instance's generation that it waits for.
    pub target_generation: i64,
    /// Now.
    pub created_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, user_id, instance_id, kind, status, progress, error, target_generation, created_at, finished_at"
    };
}

statements! {
    /// Returns an operation of `tenant`.
    pub Db.lookup_operation(tenant: UserId, id: OperationId) -> Option<OperationRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM operations WHERE user_id = $1 AND id = $2")),
        [tenant, id];

    /// Returns a page of the tenant's operations, newest first.
    pub Db.list_operations(tenant: UserId, page: Page) -> Vec<OperationRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM operations WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        )),
        [tenant, page.bound(), page.limit];

    /// Returns the newest operations on an instance, newest first.
    pub Db.list_operations_on(instance: InstanceId, limit: i64) -> Vec<OperationRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM operations WHERE instance_id = $1 ORDER BY id DESC LIMIT $2"
        )),
        [instance, limit];

    /// Returns the operation that runs on an instance.
    pub Db.running_operation(instance: InstanceId) -> Option<OperationRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM operations WHERE instance_id = $1 AND status = 'running'"
        )),
        [instance];

    /// Returns the operation that runs on an instance.
    pub Tx.running_operation(instance: InstanceId) -> Option<OperationRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM operations WHERE instance_id = $1 AND status = 'running'"
        )),
        [instance];

    /// Begins an operation; a conflict with [`crate::Unique::RunningOperation`] where one runs on the instance.
    pub Tx.insert_operation(new: &NewOperation) -> One<OperationRow>
        = Sql::same(concat!(
            "INSERT INTO operations (id, user_id, instance_id, kind, target_generation, created_at, status, progress) \
             VALUES ($1, $2, $3, $4, $5, $6, 'running', 0) RETURNING ",
            columns!()
        )),
        [new.id, new.user_id, new.instance_id, new.kind, new.target_generation, new.created_at];

    pub(crate) Tx.end_operation(id: OperationId, status: OperationStatus, error: Option<&OperationError>, now: Timestamp) -> Option<OperationRow>
        = Sql::same(concat!(
            "UPDATE operations SET status = $2, error = $3, finished_at = $4, \
             progress = CASE WHEN $2 = 'succeeded' THEN 100 ELSE progress END \
             WHERE id = $1 AND status = 'running' RETURNING ",
            columns!()
        )),
        [id, status, error.map(Json), now];

    /// Moves the progress of a running operation forward, in percent; `None`: it was as far, or has ended.
    pub Tx.set_operation_progress(id: OperationId, percent: i64) -> Option<OperationRow>
        = Sql::same(concat!(
            "UPDATE operations SET progress = $2 WHERE id = $1 AND status = 'running' AND progress < $2 RETURNING ",
            columns!()
        )),
        [id, percent];
}

impl Tx {
    /// Ends a running operation and wakes whoever waits for it; `None`: it had ended.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn finish_operation(
        &mut self,
        id: OperationId,
        status: OperationStatus,
        error: Option<&OperationError>,
        now: Timestamp,
    ) -> Result<Option<OperationRow>, DbError> {
        let row = self.end_operation(id, status, error, now).await?;
        self.notify(Wake::Instances).await?;
        Ok(row)
    }
}
