//! `GET …/logs`: what the instance's daemon and gateway wrote.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    response::Response,
};
use reef_door::status::LogLine;
use reef_model::InstanceId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiResult, ApiState, caller::InstancesRead, forward::forward, instance_route::InstanceRoute};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(logs))
}

/// Returns the newest lines of the instance's log, oldest first.
#[utoipa::path(
    get, path = "/api/instances/{id}/logs", operation_id = "getInstanceLogs", tag = "Instances",
    params(
        ("id" = InstanceId, Path),
        ("lines" = Option<u32>, Query, description = "At most so many, 1 to 2000.", minimum = 1, maximum = 2000),
    ),
    responses((status = 200, description = "Lines.", body = Vec<LogLine>)),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("passthrough"))),
)]
async fn logs(
    route: InstanceRoute<InstancesRead>,
    State(state): State<ApiState>,
    request: Request,
) -> ApiResult<Response> {
    forward(&state, &route, "/logs", Duration::from_secs(10), request).await
}
