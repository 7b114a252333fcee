//! The pipe: forwards HTTP to doors and tunnels upgraded connections.
//!
//! After the decision to let a request through, the response body *is* the door's body: no task and no channel in
//! between, so backpressure and cancellation come from the sockets. This crate knows no tenant, no database and no
//! framework; who may talk to which door is decided before [`Pipe::forward`] is called. A door is hostile input: what it
//! may say in a response head is filtered by [`headers`], how long it may be silent is bounded.
//!
//! Timeouts: dialing ([`CONNECT_TIMEOUT`]), the response head, silence within a body. Never one over a whole stream.

mod body;
mod dial;
mod doors;
mod error;
pub mod headers;
mod patience;
mod pool;
mod tunnel;

use std::{any::Any, future::Future, time::Duration};

use body::{Progress, RequestBody};
use bytes::Bytes;
use doors::Doors;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    uri::PathAndQuery,
};
use hyper::body::{Body, Incoming};
use pool::{Lease, Pool};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use crate::{
    body::DoorBody,
    dial::{Connection, Dialer, Io},
    error::{BodyError, PipeError, Side, TunnelError},
    patience::Patient,
};

/// How long dialing a door may take, the dialer's own attempts included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a response head may take unless the call says otherwise.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body or tunnel may be silent unless the call says otherwise: four of the door's heartbeats.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A door: which one, and what it wants to see.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The instance.
    pub id: Uuid,
    /// What it was started for; connections are pooled per pair.
    pub generation: i64,
    /// Its `Authorization`.
    pub authorization: HeaderValue,
}

impl Upstream {
    fn name(&self) -> pool::DoorName {
        (self.id, self.generation)
    }
}

/// One request's way: where to, on whose behalf, how long, until when.
#[derive(Debug, Clone)]
pub struct Call {
    /// The door.
    pub upstream: Upstream,
    /// Path and query on the door; a ticket in the query is taken out.
    pub path: PathAndQuery,
    /// Who calls, for the door's log.
    pub caller: HeaderValue,
    /// The request's id.
    pub request_id: HeaderValue,
    /// How long the response head may take once the request is sent.
    pub head_timeout: Duration,
    /// How long either body or the tunnel may be silent.
    pub idle_timeout: Duration,
    /// Cuts the request, its streams and its tunnel at once.
    pub revoked: CancellationToken,
}

impl Call {
    /// Returns a call with the usual timeouts.
    pub fn new(
        upstream: Upstream,
        path: PathAndQuery,
        caller: HeaderValue,
        request_id: HeaderValue,
        revoked: CancellationToken,
    ) -> Self {
        Self {
            upstream,
            path,
            caller,
            request_id,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            revoked,
        }
    }

    fn uri(&self) -> Uri {
        headers::without_credentials(&self.path).into()
    }

    fn stamp(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, HeaderValue::from_static("door"));
        headers.insert(AUTHORIZATION, self.upstream.authorization.clone());
        headers.insert(headers::CALLER, self.caller.clone());
        headers.insert(headers::REQUEST_ID, self.request_id.clone());
    }
}

/// A WebSocket on its way to a door.
pub struct Socket {
    /// Its name between us and the door, which ends it with a close frame when it is asked to.
    pub name: Uuid,
    /// Let go of when the tunnel has ended.
    pub held: Box<dyn Any + Send>,
}

/// The way to all doors, with one bounded connection pool per door.
///
/// `B` is the body of the incoming requests. Clones share pools and tunnels.
pub struct Pipe<B> {
    pool: Pool<B>,
    tunnels: TaskTracker,
    doors: Doors,
    closing: CancellationToken,
}

impl<B> Clone for Pipe<B> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            tunnels: self.tunnels.clone(),
            doors: self.doors.clone(),
            closing: self.closing.clone(),
        }
    }
}

impl<B> std::fmt::Debug for Pipe<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").field("open_tunnels", &self.tunnels.len()).finish_non_exhaustive()
    }
}

impl<B> Pipe<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Returns a pipe that reaches doors through `dialer`.
    pub fn new(dialer: impl Dialer) -> Self {
        Self {
            pool: Pool::new(dialer),
            tunnels: TaskTracker::new(),
            doors: Doors::default(),
            closing: CancellationToken::new(),
        }
    }

    /// Closes connections that were not used for a while; to be called now and then.
    pub fn reap(&self) {
        self.pool.reap();
    }

    /// Sends the request to the door and returns its answer; the body is the door's, streamed.
    ///
    /// Both heads are filtered ([`headers`]). A pooled connection that turns out to be closed before anything was sent
    /// on it is replaced once, unseen; anything later is not repeated.
    ///
    /// # Errors
    /// [`PipeError`]; the request may have reached the door unless it is [`PipeError::Unreachable`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection to the door, which sees its client leave.
    pub async fn forward(
        &self,
        request: Request<B>,
        call: &Call,
    ) -> Result<Response<DoorBody<B>>, PipeError> {
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        headers::to_door(&mut headers);
        let (mut response, lease) = self.send(parts.method, headers, body, call).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(PipeError::Protocol("the door switched protocols unasked".into()));
        }
        headers::to_client(response.headers_mut());
        Ok(response.map(|body| DoorBody::new(body, Some(lease), call)))
    }

    /// Sends a WebSocket handshake (RFC 6455 §4) to the door; after its 101 the two connections are one tunnel of bytes.
    ///
    /// Returns the door's answer. Anything but a 101 passes like an ordinary response: a 403 stays a 403. The tunnel ends
    /// with either end, the call's `revoked`, silence for `idle_timeout`, [`Pipe::leave_before`] or [`Pipe::hang_up`]. Where it
    /// is cut, the door is asked first to tell the client why, with a close frame: only the door can put one between two
    /// others.
    ///
    /// # Errors
    /// [`PipeError::Protocol`] where the request is no handshake or the door's 101 is for something else; otherwise as
    /// [`Pipe::forward`].
    pub async fn tunnel(
        &self,
        mut request: Request<B>,
        call: &Call,
        socket: Socket,
    ) -> Result<Response<DoorBody<B>>, PipeError> {
        if !headers::asks_for_websocket(request.headers()) || request.method() != Method::GET {
            return Err(PipeError::NotAHandshake);
        }
        let downstream = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        headers::to_door(&mut headers);
        headers::set_websocket(&mut headers);
        let name = HeaderValue::try_from(socket.name.to_string());
        headers.insert(headers::SOCKET, name.map_err(|error| PipeError::Protocol(error.into()))?);
        let (mut response, lease) = self.send(parts.method, headers, body, call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            headers::to_client(response.headers_mut());
            return Ok(response.map(|body| DoorBody::new(body, Some(lease), call)));
        }
        if !headers::asks_for_websocket(response.headers()) {
            return Err(PipeError::Protocol("the door switched to another protocol".into()));
        }
        headers::to_client(response.headers_mut());
        headers::set_websocket(response.headers_mut());
        let upstream = hyper::upgrade::on(&mut response);
        let door = self.doors.enter(call.upstream.name());
        let limits = tunnel::Limits {
            idle_timeout: call.idle_timeout,
            revoked: call.revoked.clone(),
            leaving: door.leaving.clone(),
            closing: self.closing.clone(),
        };
        let say_why = {
            let (pipe, call) = (self.clone(), call.clone());
            move |why| async move { pipe.say_why(&call, socket.name, why).await }
        };
        let (request_id, held) = (call.request_id.clone(), socket.held);
        self.tunnels.spawn(async move {
            lease.finish().await;
            tunnel::run(downstream, upstream, limits, request_id, say_why).await;
            drop((door, held));
        });
        Ok(response.map(|body| DoorBody::new(body, None, call)))
    }

    /// Asks the door to end a socket with a close frame; whether it does is for the caller to see.
    async fn say_why(&self, call: &Call, socket: Uuid, why: tunnel::Why) {
        let body = format!(r#"{{"code":{},"reason":"{}"}}"#, why.code, why.reason);
        let path = PathAndQuery::try_from(format!("/sockets/{socket}/close"));
        let Ok(path) = path else { return };
        let mut request = Request::new(RequestBody::Own(Some(body.into())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.into();
        call.stamp(request.headers_mut());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Err(error) = self.pool.send(call.upstream.name(), request).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "door not asked to close a socket");
        }
    }

    /// Returns how many tunnels are open.
    pub fn open_tunnels(&self) -> usize {
        self.tunnels.len()
    }

    /// Ends the tunnels to the instance's doors of generations before this one, with a reason: those doors go down.
    pub fn leave_before(&self, id: Uuid, generation: i64) {
        self.doors.leave_before(id, generation);
    }

    /// Ends every tunnel with a reason; further ones end at once.
    pub fn hang_up(&self) {
        self.closing.cancel();
    }

    /// Ends every tunnel and waits until they are gone.
    pub async fn close(&self) {
        self.hang_up();
        self.tunnels.close();
        self.tunnels.wait().await;
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: B,
        call: &Call,
    ) -> Result<(Response<Incoming>, Lease<B>), PipeError> {
        let (body, progress) = RequestBody::new(body);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = call.uri();
        *request.headers_mut() = headers;
        call.stamp(request.headers_mut());
        tokio::select! {
            biased;
            answer = self.pool.send(call.upstream.name(), request) => answer,
            () = call.revoked.cancelled() => Err(PipeError::Revoked),
            error = head_deadline(progress, call) => Err(error),
        }
    }
}

/// Ends when the head is overdue: counted anew while the request's body still moves.
fn head_deadline(progress: Option<Progress>, call: &Call) -> impl Future<Output = PipeError> {
    let (head, idle) = (call.head_timeout, call.idle_timeout);
    async move {
        if let Some(progress) = progress {
            while tokio::time::timeout(idle, progress.done()).await.is_err() {
                if !progress.take_moved() {
                    return progress.stall();
                }
            }
        }
        tokio::time::sleep(head).await;
        PipeError::HeadTimeout
    }
}
