//! `GET …/status` and its other name `…/health`: what the platform knows, and what the instance says of itself.

use std::time::Duration;

use axum::{body::Body, extract::State};
use http::Request;
use reef_door::DoorStatus;
use reef_model::{InstanceId, Power, Status};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::InstancesRead,
    extract::Json,
    forward::{Way, forward},
    instance_route::InstanceRoute,
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_STATUS_BYTES: usize = 64 * 1024;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(health))
}

/// How an instance does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceStatus {
    /// Which instance.
    id: InstanceId,
    /// What it does.
    status: Status,
    /// Why, and what to do, where that is not plain.
    reason: Option<String>,
    /// What its processes do.
    power: Power,
    /// Looks that were taken just now.
    probes: Probes,
    /// What the instance reports of itself; null unless it answered.
    door: Option<DoorStatus>,
}

/// Looks that were taken just now; null: not taken, since the instance is not up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Probes {
    /// Whether the instance's daemon answered.
    door: Option<bool>,
    /// Whether its gateway takes chats.
    gateway: Option<bool>,
}

/// Tells how an instance does; wakes nothing.
#[utoipa::path(
    get, path = "/api/instances/{id}/status", operation_id = "getInstanceStatus", tag = "Instances",
    params(("id" = InstanceId, Path)),
    responses((status = 200, description = "How it does.", body = InstanceStatus)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn status(
    route: InstanceRoute<InstancesRead>,
    State(state): State<ApiState>,
) -> ApiResult<Json<InstanceStatus>> {
    look(&state, &route).await.map(Json)
}

/// The same as `status`.
#[utoipa::path(
    get, path = "/api/instances/{id}/health", operation_id = "getInstanceHealth", tag = "Instances",
    params(("id" = InstanceId, Path)),
    responses((status = 200, description = "How it does.", body = InstanceStatus)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn health(
    route: InstanceRoute<InstancesRead>,
    State(state): State<ApiState>,
) -> ApiResult<Json<InstanceStatus>> {
    look(&state, &route).await.map(Json)
}

async fn look(state: &ApiState, route: &InstanceRoute<InstancesRead>) -> ApiResult<InstanceStatus> {
    let row = state.control().get_instance(route.caller.tenant(), route.id).await?;
    // In error too: where the gateway fails, its door says so.
    let is_up = matches!(row.status, Status::Ready | Status::Error) && row.power == Power::Running;
    let door = if is_up { probe(state, route).await } else { None };
    Ok(InstanceStatus {
        id: row.id,
        status: row.status,
        reason: row.status_reason,
        power: row.power,
        probes: Probes {
            door: is_up.then_some(door.is_some()),
            gateway: is_up
                .then(|| door.as_ref().is_some_and(|door| door.phase == reef_door::DoorPhase::Ready)),
        },
        door,
    })
}

async fn probe(state: &ApiState, route: &InstanceRoute<InstancesRead>) -> Option<DoorStatus> {
    let look = async {
        let request = Request::get(format!("/api/instances/{}/status", route.id)).body(Body::empty()).ok()?;
        let response = forward(state, route, Way::within(PROBE_TIMEOUT), request).await.ok()?;
        let bytes = axum::body::to_bytes(response.into_body(), MAX_STATUS_BYTES).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    tokio::time::timeout(PROBE_TIMEOUT, look).await.ok().flatten()
}
