//! Connections to doors, kept for the next request.
//!
//! A connection is driven by the request that has it, in that request's own task: what wakes one wakes the other, and
//! nobody else. An idle connection is driven by nobody; whether it still lives is looked at when it is taken.

use std::{
    collections::HashMap,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{task::coop::unconstrained, time::Instant};
use uuid::Uuid;

use crate::{CONNECT_TIMEOUT, Dialer, PipeError, body::RequestBody};

const MAX_IDLE: Duration = Duration::from_secs(30);
/// As many as one door serves at once without dialing anew, as nginx's `keepalive 256`.
const MAX_IDLE_PER_DOOR: usize = 256;

/// The door of an instance, as started for a generation.
pub(crate) type DoorName = (Uuid, i64);

/// All idle connections, and how to make more. Clones share them.
pub(crate) struct Pool<B>(Arc<Shared<B>>);

struct Shared<B> {
    dialer: Box<dyn Dialer>,
    idle: Mutex<Idle<B>>,
}

/// Since when; the last used comes last.
type Idle<B> = HashMap<DoorName, Vec<(Instant, Wire<B>)>>;

/// A connection with its HTTP.
struct Wire<B> {
    sender: SendRequest<RequestBody<B>>,
    http: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    is_over: bool,
}

impl<B> Wire<B> {
    /// Lets the connection read and write what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // An error is told to whoever waits for the answer or its body.
        if !self.is_over && self.http.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            // Only once it is dropped does it give back a request that was handed over and not sent.
            self.http = Box::pin(pending());
        }
    }

    fn is_free(&self) -> bool {
        !self.is_over && self.sender.is_ready()
    }
}

/// A connection in use: it goes back to its pool where it is free at the end, and is closed where it is not.
pub(crate) struct Lease<B> {
    wire: Option<Wire<B>>,
    door: DoorName,
    pool: Pool<B>,
}

impl<B> Lease<B> {
    /// Lets the connection read and write what it can.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(wire) = &mut self.wire {
            wire.drive(cx);
        }
    }

    /// Drives the connection to its end: that of HTTP on it, after an upgrade.
    pub(crate) async fn finish(mut self) {
        if let Some(wire) = self.wire.take().filter(|wire| !wire.is_over) {
            let _ = wire.http.await;
        }
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(wire) = self.wire.take().filter(Wire::is_free) else { return };
        let mut idle = self.pool.idle();
        let idle = idle.entry(self.door).or_default();
        if idle.len() < MAX_IDLE_PER_DOOR {
            idle.push((Instant::now(), wire));
        }
    }
}

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Pool<B> {
    pub(crate) fn new(dialer: impl Dialer) -> Self {
        Self(Arc::new(Shared { dialer: Box::new(dialer), idle: Mutex::default() }))
    }

    /// Closes what was not used for a while.
    pub(crate) fn reap(&self) {
        self.idle().retain(|_, idle| {
            idle.retain(|(since, _)| since.elapsed() < MAX_IDLE);
            !idle.is_empty()
        });
    }

    fn idle(&self) -> MutexGuard<'_, Idle<B>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection that was used last and still lives.
    fn take(&self, door: DoorName) -> Option<Wire<B>> {
        loop {
            let (since, mut wire) = self.idle().get_mut(&door)?.pop()?;
            // It has read nothing since, not even its end.
            wire.drive(&mut Context::from_waker(Waker::noop()));
            if wire.is_free() && since.elapsed() < MAX_IDLE {
                return Some(wire);
            }
        }
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request and waits for the head of its answer; the body comes as the lease is driven.
    ///
    /// # Errors
    /// As [`crate::Pipe::forward`].
    pub(crate) async fn send(
        &self,
        door: DoorName,
        mut request: Request<RequestBody<B>>,
    ) -> Result<(Response<Incoming>, Lease<B>), PipeError> {
        loop {
            let (mut wire, is_used) = match self.take(door) {
                Some(wire) => (wire, true),
                None => (self.connect(door).await?, false),
            };
            let mut answer = pin!(unconstrained(wire.sender.try_send_request(request)));
            let outcome = poll_fn(|cx| {
                wire.drive(cx);
                // Only the connection makes the answer ready, and it was just driven: nobody need be woken for it.
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            });
            match outcome.await {
                Ok(response) => return Ok((response, Lease { wire: Some(wire), door, pool: self.clone() })),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_used => request = unsent,
                    _ => return Err(PipeError::from_exchange(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, (id, generation): DoorName) -> Result<Wire<B>, PipeError> {
        let dialed = tokio::time::timeout(CONNECT_TIMEOUT, self.0.dialer.dial(id, generation)).await;
        let stream = match dialed {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(PipeError::Unreachable(error.into())),
            Err(elapsed) => return Err(PipeError::Unreachable(elapsed.into())),
        };
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| PipeError::Unreachable(error.into()))?;
        Ok(Wire { sender, http: Box::pin(connection.with_upgrades()), is_over: false })
    }
}
