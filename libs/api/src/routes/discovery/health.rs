//! `GET /health`, `/healthz`, `/readyz`.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use reef_worker::Status;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiResult, ApiState, extract::Json};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(live)).routes(routes!(ready))
}

/// How the platform does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// Of this build.
    version: &'static str,
    /// Seconds since the start.
    uptime: u64,
    /// Joined machines.
    hosts: i64,
    /// Those of them that are connected.
    connected_hosts: i64,
}

/// Tells that the platform runs, and its version.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "Discovery",
    responses((status = 200, description = "It runs.", body = Health)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn health(State(state): State<ApiState>) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: crate::VERSION,
        uptime: state.begun().elapsed().as_secs(),
        hosts: 0,
        connected_hosts: 0,
    })
}

/// Liveness; touches nothing.
#[utoipa::path(
    get, path = "/healthz", operation_id = "live", tag = "Discovery",
    responses((status = 200, description = "The process lives.", body = String, content_type = "text/plain")),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn live() -> &'static str {
    "ok"
}

/// Whether work is taken, and what each dependency does.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, `draining` or `not_ready`.
    status: &'static str,
    /// Each dependency by name.
    dependencies: Dependencies,
    /// Work in the background by name: `ok` or `failing`. Requests are served without it.
    tasks: BTreeMap<&'static str, &'static str>,
}

/// What each dependency does: `ok` or `down`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Dependencies {
    /// The database.
    database: &'static str,
}

/// Readiness; 503 where a dependency is down or the server is going down.
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "Discovery",
    responses(
        (status = 200, description = "Work is taken.", body = Readiness),
        (status = 503, description = "No new work, please.", body = Readiness),
    ),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn ready(State(state): State<ApiState>) -> ApiResult<Response> {
    let is_up = state.control().db().ping().await.is_ok();
    let status = match (state.is_draining(), is_up) {
        (true, _) => "draining",
        (false, false) => "not_ready",
        (false, true) => "ready",
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let dependencies = Dependencies { database: if is_up { "ok" } else { "down" } };
    let health = |task: Status| (task.name, if task.failures_in_a_row == 0 { "ok" } else { "failing" });
    let tasks = state.workers().statuses().into_iter().map(health).collect();
    Ok((code, Json(Readiness { status, dependencies, tasks })).into_response())
}
