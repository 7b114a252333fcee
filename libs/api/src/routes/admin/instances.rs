//! `/api/admin/instances`: the instances of every account, and their stop and start.

use axum::{extract::State, response::Response};
use reef_control::instance::Verb;
use reef_model::InstanceId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, Operator},
    extract::{PageQuery, Path, Query, WaitQuery},
    routes::instances::outcome,
    views::{ListedInstance, Operation},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(stop)).routes(routes!(start))
}

/// Lists the instances of all accounts, newest first; those that can still be restored too.
#[utoipa::path(
    get, path = "/api/admin/instances", operation_id = "listAllInstances", tag = "Operator",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<ListedInstance>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    _caller: Caller<Operator>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_owned_instances_any(page.page()?).await?;
    let id = |row: &reef_db::OwnedInstance| row.instance.id.as_uuid();
    Ok(page.answer("/api/admin/instances", rows, id, |_| true, ListedInstance::from))
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $verb:ident at $path:literal as $operation:literal, wakes $wakes:literal;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, operation_id = $operation, tag = "Operator",
            params(("id" = InstanceId, Path), WaitQuery),
            responses(
                (status = 200, description = "Ended in time (`wait`); `status` says how.", body = Operation),
                (status = 202, description = "Under way.", body = Operation),
            ),
            extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!($wakes))),
        )]
        async fn $name(
            caller: Caller<Operator>,
            State(state): State<ApiState>,
            Path(id): Path<InstanceId>,
            Query(wait): Query<WaitQuery>,
        ) -> ApiResult<Response> {
            let wait = wait.begin(&state, &caller)?;
            let (row, mut operation) = state.control().command_any(&caller.actor(), id, Verb::$verb).await?;
            if let Some((wait, _seat)) = wait {
                operation = state.control().wait_operation(row.user_id, operation.id, wait).await?;
            }
            Ok(outcome(operation))
        }
    )*};
}

verbs! {
    /// Brings anybody's instance down. Its data is kept; its owner may start it again, unless the account is locked.
    stop = Stop at "/api/admin/instances/{id}/stop" as "stopAnyInstance", wakes false;
    /// Brings anybody's instance up; does nothing where it runs.
    start = Start at "/api/admin/instances/{id}/start" as "startAnyInstance", wakes true;
}
