//! `GET /api/admin/tasks`: how the work in the background goes.

use axum::extract::State;
use reef_model::Timestamp;
use reef_worker::Status;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiState,
    caller::{Caller, Operator},
    extract::Json,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Work in the background of the server that answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Task {
    /// Its name.
    name: &'static str,
    /// Whether it runs now; services always do.
    is_running: bool,
    /// How often it ended.
    run_count: u64,
    /// How often with an error.
    failure_count: u64,
    /// How often with an error since it last went well.
    failures_in_a_row: u32,
    /// When it last ended.
    last_run_at: Option<Timestamp>,
    /// How long that took.
    last_duration_ms: u64,
    /// The error of the last run; `null`: it went well.
    last_error: Option<String>,
}

impl From<Status> for Task {
    fn from(status: Status) -> Self {
        Self {
            name: status.name,
            is_running: status.is_running,
            run_count: status.run_count,
            failure_count: status.failure_count,
            failures_in_a_row: status.failures_in_a_row,
            last_run_at: status.last_run_at,
            last_duration_ms: u64::try_from(status.last_duration.as_millis()).unwrap_or(u64::MAX),
            last_error: status.last_error,
        }
    }
}

/// Tells how the work in the background goes, of the server that answers.
#[utoipa::path(
    get, path = "/api/admin/tasks", operation_id = "listTasks", tag = "Operator",
    responses((status = 200, description = "Each task.", body = Vec<Task>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn list(_caller: Caller<Operator>, State(state): State<ApiState>) -> Json<Vec<Task>> {
    Json(state.workers().statuses().into_iter().map(Task::from).collect())
}
