//! Open WebSockets of the instance: how many, and how they are ended with a reason.
//!
//! The control plane tunnels bytes and cannot put a close frame between two frames; the door can. So the control plane
//! names each socket ([`headers::SOCKET`]) and asks for its end here; a door that is going down ends all.

pub(crate) mod ending;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use reef_door::{CloseReason, ErrorCode, headers};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::{activity::Activity, problem::Problem};

/// Sockets that an instance may have open.
pub(crate) const MAX_SOCKETS: usize = 256;

/// The instance has as many sockets as it may.
#[derive(Debug, thiserror::Error)]
#[error("this instance has {MAX_SOCKETS} open sockets, which is the most it may: close some")]
pub(crate) struct Full;

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        Self::new(ErrorCode::QuotaExceeded, format!("{full}.")).with(json!({ "reason": "sockets" }))
    }
}

/// All open sockets. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Sockets {
    open: Arc<Mutex<Open>>,
    activity: Activity,
}

#[derive(Default)]
struct Open {
    next: u64,
    open: HashMap<u64, (Option<Uuid>, watch::Sender<Option<CloseReason>>)>,
    /// Why there are to be no more.
    closing: Option<CloseReason>,
}

impl Sockets {
    /// Returns none yet, whose use is noted with `activity`.
    pub(crate) fn new(activity: Activity) -> Self {
        Self { open: Arc::default(), activity }
    }

    /// Takes a seat for the socket that a handshake with these headers opens.
    pub(crate) fn enter(&self, headers: &HeaderMap) -> Result<Seat, Full> {
        let name = headers.get(headers::SOCKET).and_then(|name| Uuid::try_parse_ascii(name.as_bytes()).ok());
        let mut state = self.lock();
        if state.open.len() >= MAX_SOCKETS {
            return Err(Full);
        }
        let number = state.next;
        state.next += 1;
        let sender = watch::Sender::new(state.closing.clone());
        let closed = sender.subscribe();
        state.open.insert(number, (name, sender));
        Ok(Seat { sockets: self.clone(), number, closed })
    }

    /// Ends the socket of that name, if there is one.
    fn close(&self, name: Uuid, reason: &CloseReason) {
        let state = self.lock();
        for (_, sender) in state.open.values().filter(|(other, _)| *other == Some(name)) {
            sender.send_replace(Some(reason.clone()));
        }
    }

    /// Ends all, and those that are still to come.
    pub(crate) fn close_all(&self, reason: &CloseReason) {
        let mut state = self.lock();
        state.closing = Some(reason.clone());
        for (_, sender) in state.open.values() {
            sender.send_replace(Some(reason.clone()));
        }
    }

    /// Returns the routes of this module.
    pub(crate) fn router(self) -> Router {
        Router::new().route("/sockets/{name}/close", post(close)).with_state(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close(
    State(sockets): State<Sockets>,
    Path(name): Path<Uuid>,
    Json(reason): Json<CloseReason>,
) -> StatusCode {
    sockets.close(name, &reason);
    StatusCode::NO_CONTENT
}

/// One open socket; dropped, its place is free.
pub(crate) struct Seat {
    sockets: Sockets,
    number: u64,
    closed: watch::Receiver<Option<CloseReason>>,
}

impl Seat {
    /// Notes that the client sent something of its own; keep-alives are not.
    pub(crate) fn used(&self) {
        self.sockets.activity.note();
    }

    /// Waits until the socket is to be ended, and says with what.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn closed(&self) -> CloseReason {
        match self.closed.clone().wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()) {
            Some(reason) => reason,
            // Its sender is in the map as long as the seat is.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sockets.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: Uuid) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(headers::SOCKET),
            name.to_string().parse().unwrap(),
        )])
    }

    fn reason(code: u16) -> CloseReason {
        CloseReason { code, reason: "because".into() }
    }

    #[tokio::test]
    async fn ends_the_one_that_is_named_and_then_all() {
        let sockets = Sockets::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (first, second) = (sockets.enter(&named(a)).unwrap(), sockets.enter(&named(b)).unwrap());
        sockets.close(a, &reason(4401));
        assert_eq!(first.closed().await.code, 4401);
        sockets.close_all(&reason(1001));
        assert_eq!(second.closed().await.code, 1001);
        let late = sockets.enter(&HeaderMap::new()).unwrap();
        assert_eq!(late.closed().await.code, 1001);
    }

    #[test]
    fn a_place_is_free_again_when_the_socket_is_gone() {
        let sockets = Sockets::default();
        let mut seats: Vec<_> = (0..MAX_SOCKETS).map(|_| sockets.enter(&HeaderMap::new()).unwrap()).collect();
        assert!(sockets.enter(&HeaderMap::new()).is_err());
        seats.pop();
        assert!(sockets.enter(&HeaderMap::new()).is_ok());
    }
}
