//! `GET …/logs`: what the instance's daemon and gateway wrote.

use std::time::Duration;

use reef_door::status::LogLine;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, caller::InstancesRead, forward::Way, routes::pass::passed_on};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(logs))
}

passed_on! {
    right: InstancesRead, scope: "instances:read", tag: "Instances";

    /// Returns the newest lines of the instance's log, oldest first.
    get "/logs" logs = "getInstanceLogs" {
        way: Way::within(Duration::from_secs(10)), kind: "passthrough", wakes: false,
        params: [("lines" = Option<u32>, Query, description = "At most so many, 1 to 2000.", minimum = 1, maximum = 2000)],
        responses((status = 200, description = "Lines.", body = Vec<LogLine>)),
    }
}
