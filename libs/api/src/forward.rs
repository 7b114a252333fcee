//! From a decided request to the door: the answer's body is the door's body.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderName, HeaderValue, header, uri::PathAndQuery};
use http_body_util::Limited;
use reef_control::{Control, ControlError, instance::Upstream};
use reef_door::ErrorCode;
use reef_model::{InstanceId, Status};
use reef_proxy::{Call, Connection, Dialer, PipeError};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use crate::{ApiError, ApiResult, ApiState, caller::Right, instance_route::InstanceRoute};

/// Attachments of 15 MiB in base64, and the message.
const MAX_BODY_BYTES: usize = 24 << 20;
const MAX_HOLD: Duration = Duration::from_secs(60);
const MAX_HELD: u32 = 64;
/// Another replica's work is not told here: look this often while holding.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Dials doors through the runtime.
pub(crate) struct DoorDialer(pub(crate) Control);

#[async_trait]
impl Dialer for DoorDialer {
    async fn dial(&self, id: &str, _generation: i64) -> io::Result<Connection> {
        let id = id.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(self.0.runtime().dial(id).await?))
    }
}

/// Requests that wait for an instance to become ready, by instance.
#[derive(Default)]
pub(crate) struct Holds(Mutex<HashMap<InstanceId, u32>>);

struct Hold<'h>(&'h Holds, InstanceId);

impl Holds {
    fn enter(&self, id: InstanceId) -> Option<Hold<'_>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(id).or_default();
        (*count < MAX_HELD).then(|| {
            *count += 1;
            Hold(self, id)
        })
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.1);
            }
        }
    }
}

/// Sends the request to `path` on the instance's door; the query goes along.
///
/// A request for an instance that is coming up is held until it is ready, for at most a minute.
///
/// # Errors
/// 409 where the instance is not ready, 413, 502, 503 and 504.
pub(crate) async fn forward<R: Right>(
    state: &ApiState,
    route: &InstanceRoute<R>,
    path: &str,
    head_timeout: Duration,
    request: Request,
) -> ApiResult<Response> {
    let upstream = ready(state, route).await?;
    let path = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path = PathAndQuery::try_from(path).map_err(ApiError::internal)?;
    let door = reef_proxy::Upstream::new(
        &route.id.to_string(),
        upstream.generation,
        upstream.door_token.expose_secret(),
    )
    .map_err(ApiError::internal)?;
    let text = |text: String| HeaderValue::try_from(text).map_err(ApiError::internal);
    let mut call = Call::new(
        door,
        path,
        text(route.caller.identity().principal.actor_id())?,
        text(route.caller.context().request_id().to_owned())?,
        route.caller.identity().revoked().clone(),
    );
    call.head_timeout = head_timeout;
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    // A body of unknown length is counted on its way.
    let request = if length.is_some() {
        request
    } else {
        request.map(|body| Body::new(Limited::new(body, MAX_BODY_BYTES)))
    };
    let mut response =
        state.pipe().forward(request, &call).await.map_err(|error| refuse(error, &upstream))?.map(Body::new);
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    if is_stream {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    }
    Ok(response)
}

/// Returns the way to the door once the instance is ready.
async fn ready<R: Right>(state: &ApiState, route: &InstanceRoute<R>) -> ApiResult<Arc<Upstream>> {
    if route.upstream.status == Status::Ready {
        return Ok(route.upstream.clone());
    }
    let control = state.control();
    let deadline = Instant::now() + MAX_HOLD;
    let mut events = control.follow();
    let mut upstream = control.upstream(route.caller.tenant(), route.id).await?;
    let mut hold = None;
    loop {
        match upstream.status {
            Status::Ready => return Ok(upstream),
            Status::Provisioning | Status::Starting | Status::Updating if Instant::now() < deadline => {}
            _ => return Err(not_ready(&upstream)),
        }
        if hold.is_none() {
            hold = Some(state.holds().enter(route.id).ok_or_else(|| {
                ApiError::new(ErrorCode::Capacity, "Too many requests wait for this instance to come up.")
                    .with_retry_after(5)
            })?);
        }
        let changed = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.instance_id != route.id => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                    _ => return,
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout_at((Instant::now() + LOOK_AGAIN).min(deadline), changed) => {}
            () = route.caller.identity().revoked().cancelled() => return Err(revoked()),
        }
        upstream = control.upstream(route.caller.tenant(), route.id).await.map_err(|error| match error {
            ControlError::NotFound => ApiError::not_found("instance"),
            other => other.into(),
        })?;
    }
}

/// Says that the instance cannot serve this now, and what would help.
pub(crate) fn not_ready(upstream: &Upstream) -> ApiError {
    let status = upstream.status;
    let (advice, retry_after) = match status {
        Status::Provisioning | Status::Starting | Status::Updating | Status::Ready => {
            ("try again in a moment", Some(5))
        }
        Status::Stopping | Status::Stopped => ("start it with POST /api/instances/{id}/start", None),
        Status::Error => {
            ("its status_reason says why; POST /api/instances/{id}/restart tries again", Some(30))
        }
        Status::Deleting | Status::Deleted => ("POST /api/instances/{id}/restore brings it back", None),
    };
    let error = ApiError::new(ErrorCode::InstanceNotReady, format!("The instance is {status}: {advice}."))
        .with_details(json!({ "status": status, "status_reason": upstream.status_reason }));
    // Without anybody's doing it will not change; a client that asks anyway should not ask often.
    error.with_retry_after(retry_after.unwrap_or(30))
}

fn too_large() -> ApiError {
    ApiError::new(ErrorCode::PayloadTooLarge, "The body may have 24 MiB, attachments included.")
}

fn revoked() -> ApiError {
    ApiError::unauthorized("This credential was revoked while the request waited.")
}

fn refuse(error: PipeError, upstream: &Upstream) -> ApiError {
    match error {
        PipeError::Unreachable(_) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "door not reached");
            let status = Status::Starting;
            ApiError::new(
                ErrorCode::InstanceNotReady,
                "The instance is starting anew: try again in a moment.",
            )
            .with_details(json!({ "status": status, "status_reason": upstream.status_reason }))
            .with_retry_after(2)
        }
        PipeError::HeadTimeout => {
            ApiError::new(ErrorCode::UpstreamTimeout, "The instance did not answer in time. Try again.")
        }
        PipeError::UploadStalled => {
            ApiError::new(ErrorCode::InvalidRequest, "The body stopped in the middle: send it again.")
        }
        PipeError::Downstream(source) if is_too_long(source.as_ref()) => too_large(),
        PipeError::Downstream(_) => {
            ApiError::new(ErrorCode::InvalidRequest, "The body broke off: send it again.")
        }
        PipeError::NotAHandshake => {
            ApiError::new(ErrorCode::InvalidRequest, "This route takes WebSocket handshakes only.")
        }
        PipeError::Revoked => revoked(),
        PipeError::Upstream(_) | PipeError::Protocol(_) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "door broke off");
            ApiError::new(ErrorCode::UpstreamError, "The instance broke off. Try again.").with_retry_after(2)
        }
    }
}

fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
