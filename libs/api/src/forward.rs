//! From a decided request to the door: the answer's body is the door's body.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Limited;
use reef_control::{Control, ControlError, instance::Upstream};
use reef_door::ErrorCode;
use reef_model::{InstanceId, RequestId, Status};
use reef_proxy::{
    Call, Connection, Dialer, PipeError, Socket,
    headers::{asks_for_websocket, bearer_subprotocol, subprotocols},
};
use serde_json::json;
use tokio::{sync::broadcast::error::RecvError, time::Instant};
use uuid::Uuid;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::Right,
    instance_route::InstanceRoute,
    seats::{Kind, Seat, Seated},
};

/// Attachments of 15 MiB in base64, and the message.
const MAX_JSON_BYTES: usize = 24 << 20;
/// Doors send a ping every half minute.
const SOCKET_IDLE: Duration = Duration::from_secs(300);
/// What a browser offers beside its key where the route has no subprotocol of its own: its frames as they are.
const PLAIN_SUBPROTOCOL: &str = "reef";
const MAX_HOLD: Duration = Duration::from_secs(60);
/// Another replica's work is not told here: look this often while holding.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Dials doors through the runtime.
pub(crate) struct DoorDialer(pub(crate) Control);

#[async_trait]
impl Dialer for DoorDialer {
    async fn dial(&self, id: Uuid, _generation: i64) -> io::Result<Connection> {
        Ok(Box::new(self.0.runtime().dial(InstanceId::from_uuid(id)).await?))
    }
}

/// How the requests of a route are passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    head_timeout: Duration,
    max_body_bytes: Option<usize>,
    /// Whether the door can do nothing for it without a gateway that is ready.
    needs_gateway: bool,
    /// What it counts as while it is open.
    kind: Option<Kind>,
}

impl Way {
    /// The door answers with what it has at hand.
    pub(crate) const PROMPT: Self = Self::within(Duration::from_secs(30));
    /// The door answers at once and then streams events.
    pub(crate) const STREAM: Self = Self { kind: Some(Kind::Stream), ..Self::PROMPT };
    /// The door works for the request, and itself bounds how long: by the longest `timeout_seconds` of a turn, and some.
    pub(crate) const WORK: Self =
        Self { kind: Some(Kind::Stream), ..Self::within(Duration::from_secs(3_660)) };
    /// Bytes of any number, either way.
    pub(crate) const BYTES: Self = Self { max_body_bytes: None, ..Self::WORK };
    /// A WebSocket, tunnelled.
    pub(crate) const SOCKET: Self = Self { kind: Some(Kind::Socket), ..Self::PROMPT };

    /// The door answers within so long.
    pub(crate) const fn within(head_timeout: Duration) -> Self {
        Self { head_timeout, max_body_bytes: Some(MAX_JSON_BYTES), needs_gateway: false, kind: None }
    }

    /// The same for what the gateway does: not before it is ready.
    pub(crate) const fn with_gateway(self) -> Self {
        Self { needs_gateway: true, ..self }
    }
}

/// Returns the path on the door: what follows the instance's id, and the query.
fn path_on_door(uri: &Uri) -> ApiResult<PathAndQuery> {
    let on_instance =
        uri.path().strip_prefix("/api/instances/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let path = on_instance.ok_or_else(|| ApiError::internal("the route is not one of an instance"))?;
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::try_from(whole).map_err(ApiError::internal)
}

/// Sends the request to the instance's door, at the path that follows the instance's id; the query goes along.
///
/// A request for an instance that is coming up is held until the door is there, or the gateway where it needs that, for at
/// most a minute. What needs the door only passes while the gateway fails too: its owner can see why, and mend it.
///
/// # Errors
/// 409 where the instance is not up, 413, 502, 503 and 504.
pub(crate) async fn forward<R: Right>(
    state: &ApiState,
    route: &InstanceRoute<R>,
    way: Way,
    request: Request,
) -> ApiResult<Response> {
    let path = path_on_door(request.uri())?;
    if way.kind == Some(Kind::Socket) {
        check_handshake(request.headers())?;
    }
    let seat = way.kind.map(|kind| state.seats().take(kind, &route.caller, Some(route.id))).transpose()?;
    let upstream = once_up(state, route, way).await?;
    let door = reef_proxy::Upstream {
        id: route.id.as_uuid(),
        generation: upstream.generation,
        authorization: upstream.authorization.clone(),
    };
    let identity = route.caller.identity();
    let mut call = Call::new(
        door,
        path,
        identity.actor().clone(),
        route.caller.context().request_id_value().clone(),
        identity.revoked().clone(),
    );
    call.head_timeout = way.head_timeout;
    let seat = match (way.kind, seat) {
        (Some(Kind::Socket), Some(seat)) => {
            call.idle_timeout = SOCKET_IDLE;
            return tunnel(state, request, &call, &upstream, seat).await;
        }
        (_, seat) => seat,
    };
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let request = match (way.max_body_bytes, length) {
        (Some(max), Some(length)) if max < length => return Err(too_large()),
        (None, _) | (_, Some(_)) => request,
        _ if request.body().is_end_stream() => request,
        // A body of unknown length is counted on its way.
        (Some(max), None) => request.map(|body| Body::new(Limited::new(body, max))),
    };
    let response = state.pipe().forward(request, &call).await.map_err(|error| refuse(error, &upstream))?;
    let mut response = response.map(|body| match seat {
        Some(seat) => Body::new(Seated::new(body, seat)),
        None => Body::new(body),
    });
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

/// Refuses what is no handshake, and one from which a browser would make no socket.
fn check_handshake(headers: &HeaderMap) -> ApiResult<()> {
    if !asks_for_websocket(headers) {
        return Err(not_a_handshake());
    }
    if let Some((_, false)) = bearer_subprotocol(headers) {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!(
                "Offer a second subprotocol beside reef.bearer.…, the route's own or {PLAIN_SUBPROTOCOL:?}: \
                 one must be chosen, and a key is never chosen."
            ),
        ));
    }
    Ok(())
}

/// Puts the handshake to the door; after its 101 client and door talk to each other.
async fn tunnel(
    state: &ApiState,
    request: Request,
    call: &Call,
    upstream: &Upstream,
    seat: Seat,
) -> ApiResult<Response> {
    let plain = HeaderValue::from_static(PLAIN_SUBPROTOCOL);
    let offers_plain = subprotocols(request.headers()).any(|protocol| protocol == PLAIN_SUBPROTOCOL);
    let socket = Socket { name: RequestId::generate().as_uuid(), held: Box::new(seat) };
    let response = state.pipe().tunnel(request, call, socket).await;
    let mut response = response.map_err(|error| refuse(error, upstream))?.map(Body::new);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && offers_plain {
        response.headers_mut().entry(header::SEC_WEBSOCKET_PROTOCOL).or_insert(plain);
    }
    Ok(response)
}

/// Returns the way to the door once as much of the instance is up as the request needs.
async fn once_up<R: Right>(state: &ApiState, route: &InstanceRoute<R>, way: Way) -> ApiResult<Arc<Upstream>> {
    if route.upstream.status == Status::Ready {
        return Ok(route.upstream.clone());
    }
    let control = state.control();
    let deadline = Instant::now() + MAX_HOLD;
    let mut events = control.follow();
    let mut upstream = control.upstream(route.caller.tenant(), route.id).await?;
    let mut hold = None;
    loop {
        let may_have_door = matches!(
            upstream.status,
            Status::Provisioning | Status::Starting | Status::Updating | Status::Error
        );
        if !way.needs_gateway && may_have_door && control.has_door(&upstream).await {
            return Ok(upstream);
        }
        match upstream.status {
            Status::Ready => return Ok(upstream),
            Status::Provisioning | Status::Starting | Status::Updating if Instant::now() < deadline => {}
            _ => return Err(not_ready(&upstream)),
        }
        if hold.is_none() {
            hold = Some(state.seats().hold(route.id).ok_or_else(|| {
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
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        "The body may have 24 MiB, attachments included; larger files go to …/files/content as they are.",
    )
}

fn not_a_handshake() -> ApiError {
    let message = "This route is a WebSocket: connect with a WebSocket client (ws:// or wss://), not with a plain request.";
    ApiError::new(ErrorCode::InvalidRequest, message).with_status(StatusCode::UPGRADE_REQUIRED)
}

fn revoked() -> ApiError {
    ApiError::unauthorized("This credential was revoked while the request waited.")
}

fn refuse(error: PipeError, upstream: &Upstream) -> ApiError {
    match error {
        PipeError::Unreachable(_) => {
            let status = Status::Starting;
            ApiError::new(
                ErrorCode::InstanceNotReady,
                "The instance is starting anew: try again in a moment.",
            )
            .with_details(json!({ "status": status, "status_reason": upstream.status_reason }))
            .with_retry_after(2)
            .with_cause(error)
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
        PipeError::NotAHandshake => not_a_handshake(),
        PipeError::Revoked => revoked(),
        PipeError::Upstream(_) | PipeError::Protocol(_) => {
            ApiError::new(ErrorCode::UpstreamError, "The instance broke off. Try again.")
                .with_retry_after(2)
                .with_cause(error)
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
