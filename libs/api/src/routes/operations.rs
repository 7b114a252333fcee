//! `GET /api/operations`: long verbs.

use axum::{extract::State, response::Response};
use reef_model::OperationId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, InstancesRead},
    extract::{Json, PageQuery, Path, Query, WaitQuery},
    views::Operation,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// Lists operations, newest first.
#[utoipa::path(
    get, path = "/api/operations", operation_id = "listOperations", tag = "Operations",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<Operation>)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<InstancesRead>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_operations(caller.tenant(), page.page()?).await?;
    let sees = |row: &reef_db::OperationRow| caller.sees(row.instance_id);
    Ok(page.answer("/api/operations", rows, |row| row.id.as_uuid(), sees, Operation::from))
}

/// Tells how an operation stands, with `wait` once it has ended.
#[utoipa::path(
    get, path = "/api/operations/{id}", operation_id = "getOperation", tag = "Operations",
    params(("id" = OperationId, Path), WaitQuery),
    responses((status = 200, description = "The operation.", body = Operation)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false))),
)]
async fn get(
    caller: Caller<InstancesRead>,
    State(state): State<ApiState>,
    Path(id): Path<OperationId>,
    Query(wait): Query<WaitQuery>,
) -> ApiResult<Json<Operation>> {
    // Looked at before waiting, so that a key for other instances learns nothing by the time it takes.
    let unknown = || reef_control::ControlError::NotFound;
    let row = state.control().db().lookup_operation(caller.tenant(), id).await?.ok_or_else(unknown)?;
    if !caller.sees(row.instance_id) {
        return Err(unknown().into());
    }
    let row = match wait.begin(&state, &caller)? {
        Some((wait, _seat)) => state.control().wait_operation(caller.tenant(), id, wait).await?,
        None => row,
    };
    Ok(Json(row.into()))
}
