//! Get, patch, delete.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode, header};
use reef_control::{
    ControlError,
    instance::{PatchInstance, Verb},
};
use reef_model::{InstanceId, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::power;
use crate::{
    ApiResult, ApiState,
    caller::{InstancesRead, InstancesWrite},
    extract::{Json, Query, WaitQuery},
    instance_route::InstanceRoute,
    views::{Instance, Operation},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get, patch, delete))
}

/// Returns an instance; for the restore window also a deleted one.
#[utoipa::path(
    get, path = "/api/instances/{id}", operation_id = "getInstance", tag = "Instances",
    params(("id" = InstanceId, Path)),
    responses((status = 200, description = "The instance; its version is the `ETag`.", body = Instance)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn get(route: InstanceRoute<InstancesRead>, State(state): State<ApiState>) -> ApiResult<Response> {
    let row = state.control().get_instance(route.caller.tenant(), route.id).await?;
    Ok(super::answer(&state, StatusCode::OK, row))
}

/// What may be changed of an instance; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchInstanceBody {
    /// 1 to 64 characters.
    #[serde(default)]
    name: Option<String>,
    /// Idle time before it sleeps, 60 to 2592000.
    #[serde(default)]
    idle_timeout_seconds: Option<u32>,
    /// The whole new environment; takes effect at the next start.
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
}

/// Changes name, idle timeout or environment.
#[utoipa::path(
    patch, path = "/api/instances/{id}", operation_id = "updateInstance", tag = "Instances",
    params(
        ("id" = InstanceId, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the change is based on; 409 where there is a newer one."),
    ),
    request_body(content = PatchInstanceBody, example = json!({"name": "research 2"})),
    responses((status = 200, description = "The instance as it is now.", body = Instance)),
    extensions(("x-reef-scope" = json!("instances:write")), ("x-reef-wakes" = json!(false))),
)]
async fn patch(
    route: InstanceRoute<InstancesWrite>,
    State(state): State<ApiState>,
    headers: HeaderMap,
    Json(body): Json<PatchInstanceBody>,
) -> ApiResult<Response> {
    let change = PatchInstance {
        name: body.name,
        idle_timeout_seconds: body.idle_timeout_seconds,
        env: body.env,
        expected_updated_at: expected(&headers)?,
    };
    let row = state.control().patch_instance(&route.caller.actor(), route.id, change).await?;
    Ok(super::answer(&state, StatusCode::OK, row))
}

/// Reads `If-Match`; a tag that none of ours could be is one that does not match.
fn expected(headers: &HeaderMap) -> ApiResult<Option<Timestamp>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let micros = text.trim_matches('"').parse().map_err(|_| ControlError::Stale)?;
    Ok(Some(Timestamp::from_unix_micros(micros)))
}

/// Deletes an instance. Its data is kept for the restore window.
#[utoipa::path(
    delete, path = "/api/instances/{id}", operation_id = "deleteInstance", tag = "Instances",
    params(("id" = InstanceId, Path), WaitQuery),
    responses(
        (status = 200, description = "Done in time (`wait`).", body = Operation),
        (status = 202, description = "Under way.", body = Operation),
    ),
    extensions(("x-reef-scope" = json!("instances:write")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn delete(
    route: InstanceRoute<InstancesWrite>,
    State(state): State<ApiState>,
    Query(wait): Query<WaitQuery>,
) -> ApiResult<Response> {
    power::command(&state, &route, Verb::Delete, wait).await
}
