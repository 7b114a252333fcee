//! Start, stop, restart, restore: long verbs that answer with an operation.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use reef_control::instance::Verb;
use reef_db::OperationRow;
use reef_model::{InstanceId, OperationStatus};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::InstancesWrite,
    extract::{Query, WaitQuery},
    instance_route::InstanceRoute,
    views::Operation,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(shutdown))
        .routes(routes!(restart))
        .routes(routes!(reboot))
        .routes(routes!(restore))
}

/// Changes the intent and answers with the operation, which is waited for where that is asked for.
pub(super) async fn command(
    state: &ApiState,
    route: &InstanceRoute<InstancesWrite>,
    verb: Verb,
    wait: WaitQuery,
) -> ApiResult<Response> {
    let wait = wait.begin(state, &route.caller)?;
    let (_, mut operation) = state.control().command(&route.caller.actor(), route.id, verb).await?;
    if let Some((wait, _seat)) = wait {
        operation = state.control().wait_operation(route.caller.tenant(), operation.id, wait).await?;
    }
    let location = format!("/api/operations/{}", operation.id);
    let mut response = outcome(operation);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Answers with an operation: 200 where it has ended, else 202.
pub(in crate::routes) fn outcome(operation: OperationRow) -> Response {
    let status = match operation.status {
        OperationStatus::Running => StatusCode::ACCEPTED,
        OperationStatus::Succeeded | OperationStatus::Failed => StatusCode::OK,
    };
    (status, axum::Json(Operation::from(operation))).into_response()
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $verb:ident at $path:literal as $operation:literal, wakes $wakes:literal;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, operation_id = $operation, tag = "Instances",
            params(("id" = InstanceId, Path), WaitQuery),
            responses(
                (status = 200, description = "Ended in time (`wait`); `status` says how.", body = Operation),
                (status = 202, description = "Under way.", body = Operation),
            ),
            extensions(("x-reef-scope" = json!("instances:write")), ("x-reef-wakes" = json!($wakes))),
        )]
        async fn $name(
            route: InstanceRoute<InstancesWrite>,
            State(state): State<ApiState>,
            Query(wait): Query<WaitQuery>,
        ) -> ApiResult<Response> {
            command(&state, &route, Verb::$verb, wait).await
        }
    )*};
}

verbs! {
    /// Brings an instance up; does nothing where it runs.
    start = Start at "/api/instances/{id}/start" as "startInstance", wakes true;
    /// Brings an instance down. Its data is kept; it does not wake by itself.
    stop = Stop at "/api/instances/{id}/stop" as "stopInstance", wakes false;
    /// The same as `stop`.
    shutdown = Stop at "/api/instances/{id}/shutdown" as "shutdownInstance", wakes false;
    /// Brings an instance down and up again.
    restart = Restart at "/api/instances/{id}/restart" as "restartInstance", wakes true;
    /// The same as `restart`.
    reboot = Restart at "/api/instances/{id}/reboot" as "rebootInstance", wakes true;
    /// Undoes a deletion within the restore window; the instance is stopped then, with its data as it was.
    restore = Restore at "/api/instances/{id}/restore" as "restoreInstance", wakes false;
}
