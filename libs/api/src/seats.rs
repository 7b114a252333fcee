//! How many at once: open sockets, streams and requests that wait, by credential, account, instance and client address.
//!
//! How *often* is said in `limits.rs`. A seat is held for as long as what it was taken for: a body, a tunnel, a wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use reef_door::ErrorCode;
use reef_model::{InstanceId, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::{ApiError, ApiResult, caller::Caller, limits::customer};

/// The most of each at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// WebSockets of one key or session.
    pub sockets: u32,
    /// Streams and waits of one key or session.
    pub streams: u32,
    /// All of one account.
    pub account: u32,
    /// All on one instance.
    pub instance: u32,
    /// All from one client address.
    pub address: u32,
    /// Requests that wait for one instance to come up.
    pub held: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self { sockets: 64, streams: 64, account: 256, instance: 256, address: 512, held: 64 }
    }
}

impl Caps {
    /// No caps but that on waiting for an instance.
    pub const NONE: Self = Self {
        sockets: u32::MAX,
        streams: u32::MAX,
        account: u32::MAX,
        instance: u32::MAX,
        address: u32::MAX,
        held: 64,
    };
}

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A WebSocket.
    Socket,
    /// A stream, or a request that is answered at the end of some work.
    Stream,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Sockets(Uuid),
    Streams(Uuid),
    Account(UserId),
    Instance(InstanceId),
    Address(IpAddr),
    Held(InstanceId),
}

/// All seats of this process.
#[derive(Debug)]
pub(crate) struct Seats {
    caps: Caps,
    taken: Taken,
}

type Taken = Arc<Mutex<HashMap<Holder, u32>>>;

/// One that is taken; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Seat {
    taken: Taken,
    holders: Vec<Holder>,
}

impl Seats {
    pub(crate) fn new(caps: Caps) -> Self {
        Self { caps, taken: Taken::default() }
    }

    /// Takes a seat for what a caller opens.
    ///
    /// # Errors
    /// 429 that names the cap.
    pub(crate) fn take<R>(
        &self,
        kind: Kind,
        caller: &Caller<R>,
        instance: Option<InstanceId>,
    ) -> ApiResult<Seat> {
        let (caps, credential) = (self.caps, caller.identity().credential_uuid());
        let own = match kind {
            Kind::Socket => (Holder::Sockets(credential), caps.sockets, "sockets of this key or session"),
            Kind::Stream => {
                (Holder::Streams(credential), caps.streams, "streams and waits of this key or session")
            }
        };
        let wanted = [
            Some(own),
            Some((
                Holder::Account(caller.tenant()),
                caps.account,
                "sockets, streams and waits of this account",
            )),
            instance.map(|id| {
                (Holder::Instance(id), caps.instance, "sockets, streams and waits on this instance")
            }),
            Some((
                Holder::Address(customer(caller.context().client())),
                caps.address,
                "sockets, streams and waits from your address",
            )),
        ];
        self.enter(wanted.into_iter().flatten()).map_err(|(cap, what)| {
            let message = format!("{cap} {what} are open, which is the most: close some, then try again.");
            ApiError::new(ErrorCode::QuotaExceeded, message)
                .with_details(json!({ "cap": what, "limit": cap }))
                .with_retry_after(5)
        })
    }

    /// Takes a seat for a request that waits for an instance to come up; `None`: too many do.
    pub(crate) fn hold(&self, instance: InstanceId) -> Option<Seat> {
        self.enter([(Holder::Held(instance), self.caps.held, "")].into_iter()).ok()
    }

    /// Counts for all holders, or for none where one of them has no room.
    fn enter(
        &self,
        wanted: impl Iterator<Item = (Holder, u32, &'static str)>,
    ) -> Result<Seat, (u32, &'static str)> {
        let mut seat = Seat { taken: self.taken.clone(), holders: Vec::new() };
        // A refusal drops the seat, after the lock.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (holder, cap, what) in wanted {
            let count = taken.entry(holder.clone()).or_default();
            if *count >= cap {
                drop(taken);
                return Err((cap, what));
            }
            *count += 1;
            seat.holders.push(holder);
        }
        drop(taken);
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for holder in &self.holders {
            if let Some(count) = taken.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(holder);
                }
            }
        }
    }
}

/// A body that holds a seat.
pub(crate) struct Seated<B> {
    inner: B,
    _seat: Seat,
}

impl<B> Seated<B> {
    pub(crate) fn new(inner: B, seat: Seat) -> Self {
        Self { inner, _seat: seat }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Seated<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_for_nobody() {
        let seats = Seats::new(Caps::default());
        let (a, b) = (InstanceId::generate(), UserId::generate());
        let both =
            |cap| [(Holder::Account(b), 9, "account"), (Holder::Instance(a), cap, "instance")].into_iter();
        let first = seats.enter(both(1)).unwrap();
        for _ in 0..20 {
            assert_eq!(seats.enter(both(1)).unwrap_err(), (1, "instance"));
        }
        let second = seats.enter(both(2)).unwrap();
        drop((first, second));
        assert!(seats.taken.lock().unwrap().is_empty());
    }
}
