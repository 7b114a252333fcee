//! `GET …/events` and `GET /api/events`: what happens to instances, as it happens.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event as SseEvent, KeepAlive, Sse},
    },
};
use http::{HeaderName, HeaderValue};
use reef_control::EventKind;
use reef_db::Page;
use reef_model::InstanceId;
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, InstancesRead},
    instance_route::InstanceRoute,
    seats::Kind,
    views::{Instance, LifecycleEvent},
};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// Instances whose state a follower of all of them is told at first.
const MAX_FIRST: i64 = 200;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(one)).routes(routes!(all))
}

/// Follows one instance (SSE).
///
/// The first event is `instance.updated` with what it is now, so a client that comes back has missed nothing that
/// still matters; then `instance.updated`, `operation.updated` and `instance.purged` as they happen.
#[utoipa::path(
    get, path = "/api/instances/{id}/events", operation_id = "followInstance", tag = "Instances",
    params(("id" = InstanceId, Path)),
    responses((status = 200, description = "Server-sent events; `data` is a LifecycleEvent.", body = LifecycleEvent, content_type = "text/event-stream")),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("sse"))),
)]
async fn one(route: InstanceRoute<InstancesRead>, State(state): State<ApiState>) -> ApiResult<Response> {
    let id = route.id;
    follow(state, route.caller, Some(id)).await
}

/// Follows all of your instances (SSE).
///
/// The first events are `instance.updated` of each instance there is.
#[utoipa::path(
    get, path = "/api/events", operation_id = "followInstances", tag = "Instances",
    responses((status = 200, description = "Server-sent events; `data` is a LifecycleEvent.", body = LifecycleEvent, content_type = "text/event-stream")),
    extensions(("x-reef-scope" = json!("instances:read")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("sse"))),
)]
async fn all(caller: Caller<InstancesRead>, State(state): State<ApiState>) -> ApiResult<Response> {
    follow(state, caller, None).await
}

async fn present(
    state: &ApiState,
    caller: &Caller<InstancesRead>,
    only: Option<InstanceId>,
) -> ApiResult<VecDeque<LifecycleEvent>> {
    let rows = match only {
        Some(id) => vec![state.control().get_instance(caller.tenant(), id).await?],
        None => state.control().db().list_instances(caller.tenant(), Page::first(MAX_FIRST)).await?,
    };
    let seen = rows.into_iter().filter(|row| caller.sees(row.id));
    Ok(seen
        .map(|row| LifecycleEvent::Updated { instance: Box::new(Instance::of(row, state.origin())) })
        .collect())
}

async fn follow(
    state: ApiState,
    caller: Caller<InstancesRead>,
    only: Option<InstanceId>,
) -> ApiResult<Response> {
    let seat = state.seats().take(Kind::Stream, &caller, only)?;
    // Follow before looking: what happens in between is then told, perhaps twice.
    let mut events = state.control().follow();
    let mut first = present(&state, &caller, only).await?;
    let stream = async_stream::stream! {
        let _seat = seat;
        let mut id = state.control().now().unix_millis();
        loop {
            while let Some(event) = first.pop_front() {
                id += 1;
                yield sse(id, &event);
            }
            let event = tokio::select! {
                event = events.recv() => event,
                () = caller.identity().revoked().cancelled() => return,
                () = state.ending().cancelled() => return,
            };
            match event {
                Ok(event) => {
                    let is_meant = event.tenant == caller.tenant()
                        && only.is_none_or(|only| only == event.instance_id)
                        && caller.sees(event.instance_id);
                    if !is_meant {
                        continue;
                    }
                    id = (id + 1).max(state.control().now().unix_millis());
                    yield sse(id, &LifecycleEvent::of(&event, state.origin()));
                    if only.is_some() && matches!(event.kind, EventKind::Purged) {
                        return;
                    }
                }
                // Too slow to be told each change: what is now is what matters.
                Err(RecvError::Lagged(_)) => match present(&state, &caller, only).await {
                    Ok(present) => first = present,
                    Err(_) => return,
                },
                Err(RecvError::Closed) => return,
            }
        }
    };
    let sse = Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let no_buffering = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok((no_buffering, sse).into_response())
}

fn sse(id: i64, event: &LifecycleEvent) -> Result<SseEvent, Infallible> {
    let data = serde_json::to_string(event).unwrap_or_default();
    Ok(SseEvent::default().id(id.to_string()).event(event.name()).data(data))
}
