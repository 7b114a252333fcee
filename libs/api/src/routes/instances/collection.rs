//! List and create.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use reef_control::instance::CreateInstance;
use reef_model::Plan;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, InstancesRead, InstancesWrite},
    extract::{Json, PageQuery, Query, WaitQuery},
    limits::{Policy, Subject},
    views::Instance,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// Which instances.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstancesQuery {
    /// Instead of those that there are, those that were deleted and can still be restored.
    #[serde(default)]
    deleted: bool,
}

/// Lists your instances, newest first.
#[utoipa::path(
    get, path = "/api/instances", operation_id = "listInstances", tag = "Instances",
    params(InstancesQuery, PageQuery),
    responses((status = 200, description = "One page.", body = Vec<Instance>)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<InstancesRead>,
    State(state): State<ApiState>,
    Query(wanted): Query<InstancesQuery>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let (control, tenant, of) = (state.control(), caller.tenant(), page.page()?);
    let (rows, path) = if wanted.deleted {
        let rows = control.db().list_restorable_instances(tenant, control.now(), of).await?;
        (rows, "/api/instances?deleted=true")
    } else {
        (control.db().list_instances(tenant, of).await?, "/api/instances")
    };
    let sees = |row: &reef_db::InstanceRow| caller.sees(row.id);
    Ok(page.answer(path, rows, |row| row.id.as_uuid(), sees, |row| Instance::of(row, state.origin())))
}

/// What may be said of a new instance; all of it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateInstanceBody {
    /// 1 to 64 characters; left out: a made one.
    #[serde(default)]
    name: Option<String>,
    /// An invite code, where none was redeemed before.
    #[serde(default)]
    invite_code: Option<String>,
    /// The plan to use, where there are several.
    #[serde(default)]
    plan: Option<Plan>,
    /// Another image than the default.
    #[serde(default)]
    image: Option<String>,
    /// Idle time before it sleeps, 60 to 2592000.
    #[serde(default)]
    idle_timeout_seconds: Option<u32>,
    /// Environment for the agent's processes.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// Creates an instance, with `wait` once it is ready.
///
/// Needs an invite code, here or redeemed before; without one the answer is 403 with
/// `error.details.reason = "subscription_or_invite_required"`.
#[utoipa::path(
    post, path = "/api/instances", operation_id = "createInstance", tag = "Instances",
    params(WaitQuery),
    request_body(content = CreateInstanceBody, example = json!({"name": "research", "invite_code": "YOUR_INVITE_CODE_IF_NEEDED"})),
    responses((status = 201, description = "Made; `status` is `provisioning`, or with `wait` what it came to.", body = Instance)),
    extensions(("x-reef-scope" = json!("instances:write")), ("x-reef-wakes" = json!(false))),
)]
async fn create(
    caller: Caller<InstancesWrite>,
    State(state): State<ApiState>,
    Query(wait): Query<WaitQuery>,
    Json(body): Json<CreateInstanceBody>,
) -> ApiResult<Response> {
    let wait = wait.begin(&state, &caller)?;
    state.limits().check(Policy::InstanceCreate, &Subject::Account(caller.tenant().to_string()))?;
    let wish = CreateInstance {
        name: body.name,
        invite_code: body.invite_code,
        plan: body.plan,
        image: body.image,
        idle_timeout_seconds: body.idle_timeout_seconds,
        env: body.env,
    };
    let (mut row, operation) = state.control().create_instance(&caller.actor(), wish).await?;
    if let Some((wait, _seat)) = wait {
        state.control().wait_operation(caller.tenant(), operation.id, wait).await?;
        row = state.control().get_instance(caller.tenant(), row.id).await?;
    }
    let location = format!("/api/instances/{}", row.id);
    let mut response = super::answer(&state, StatusCode::CREATED, row);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
