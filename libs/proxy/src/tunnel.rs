//! Two upgraded connections as one tunnel of bytes: close codes, pings and subprotocols pass untouched.
//!
//! An idle tunnel holds no buffer: bytes are read into one that the thread's tunnels share, and only what the other side
//! does not take at once is kept.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::{Side, TunnelError};

/// As much as the largest frame of a desktop.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long one end may go on after the other has closed.
const LINGER: Duration = Duration::from_secs(5);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// How long a door may take to tell the client why its tunnel ends.
const GOODBYE: Duration = Duration::from_millis(400);

/// What a close frame says (RFC 6455 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Why {
    const REVOKED: Self = Self { code: 4401, reason: "this credential was revoked" };
    const LEAVING: Self = Self { code: 1001, reason: "the instance is stopping" };
    const CLOSING: Self = Self { code: 1012, reason: "the server restarts, connect again" };
}

/// When a tunnel ends by force.
pub(crate) struct Limits {
    pub(crate) idle_timeout: Duration,
    pub(crate) revoked: CancellationToken,
    pub(crate) leaving: CancellationToken,
    pub(crate) closing: CancellationToken,
}

/// What passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Which end closed first.
    pub(crate) closed_by: Side,
    /// Bytes from the client.
    pub(crate) up_bytes: u64,
    /// Bytes from the door.
    pub(crate) down_bytes: u64,
}

/// Waits for both upgrades, relays until the end, and logs how it ended.
pub(crate) async fn run<F: Future<Output = ()> + Send>(
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    limits: Limits,
    request_id: HeaderValue,
    say_why: impl FnOnce(Why) -> F + Send,
) {
    let request_id = request_id.to_str().unwrap_or_default();
    let outcome = async {
        let of = |side| move |source| TunnelError::Upgrade { side, source };
        let upstream = upstream.await.map_err(of(Side::Upstream))?;
        let downstream = downstream.await.map_err(of(Side::Downstream))?;
        relay(TokioIo::new(downstream), TokioIo::new(upstream), &limits, say_why).await
    };
    match outcome.await {
        Ok(Passed { closed_by, up_bytes, down_bytes }) => {
            tracing::debug!(request_id, %closed_by, up_bytes, down_bytes, "tunnel closed");
        }
        Err(error) => {
            tracing::info!(request_id, error = &error as &dyn std::error::Error, "tunnel cut");
        }
    }
}

/// Relays until either end closes; the other then has [`LINGER`] to finish.
///
/// A tunnel that is cut goes on for up to [`GOODBYE`], so that what `say_why` makes the door say arrives.
pub(crate) async fn relay<F: Future<Output = ()>>(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut door: impl AsyncRead + AsyncWrite + Unpin,
    limits: &Limits,
    say_why: impl FnOnce(Why) -> F,
) -> Result<Passed, TunnelError> {
    let (mut up, mut down) = (Direction::from(Side::Downstream), Direction::from(Side::Upstream));
    let moved = AtomicU64::new(0);
    let copy = async {
        let mut linger = None;
        let closed_by = poll_fn(|cx| {
            let up_done = up.poll(cx, &mut client, &mut door)?.is_ready();
            let down_done = down.poll(cx, &mut door, &mut client)?.is_ready();
            moved.store(up.bytes + down.bytes, Ordering::Relaxed);
            let first = match (up_done, down_done) {
                (false, false) => return Poll::Pending,
                (true, _) => Side::Downstream,
                (false, true) => Side::Upstream,
            };
            let (closed_by, sleep) =
                linger.get_or_insert_with(|| (first, Box::pin(tokio::time::sleep(LINGER))));
            if !(up_done && down_done) {
                ready!(sleep.as_mut().poll(cx));
            }
            Poll::Ready(Ok::<_, TunnelError>(*closed_by))
        })
        .await?;
        Ok(Passed { closed_by, up_bytes: up.bytes, down_bytes: down.bytes })
    };
    let idle = async {
        let mut seen = 0;
        loop {
            tokio::time::sleep(limits.idle_timeout).await;
            let now = moved.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    };
    let mut copy = pin!(copy);
    let (error, why) = tokio::select! {
        outcome = &mut copy => return outcome,
        () = idle => return Err(TunnelError::Idle),
        () = limits.revoked.cancelled() => (TunnelError::Revoked, Why::REVOKED),
        () = limits.leaving.cancelled() => (TunnelError::Leaving, Why::LEAVING),
        () = limits.closing.cancelled() => (TunnelError::Closing, Why::CLOSING),
    };
    let goodbye = async { tokio::join!(say_why(why), copy) };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    Err(error)
}

/// One way of the tunnel.
struct Direction {
    from: Side,
    /// What was read and not yet taken.
    rest: Vec<u8>,
    taken: usize,
    needs_flush: bool,
    state: State,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ending,
    Done,
}

impl Direction {
    fn from(from: Side) -> Self {
        Self { from, rest: Vec::new(), taken: 0, needs_flush: false, state: State::Open, bytes: 0 }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), TunnelError>> {
        let from = self.from;
        let to = match from {
            Side::Downstream => Side::Upstream,
            Side::Upstream => Side::Downstream,
        };
        let read_failed = |source| TunnelError::Io { side: from, source };
        let write_failed = |source| TunnelError::Io { side: to, source };
        loop {
            while self.taken < self.rest.len() {
                let count = ready!(Pin::new(&mut *writer).poll_write(cx, &self.rest[self.taken..]));
                self.taken += nonzero(count).map_err(write_failed)?;
            }
            (self.rest, self.taken) = (Vec::new(), 0);
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(write_failed)?;
                    self.state = State::Done;
                }
                State::Open => {
                    let read = BUFFER.with_borrow_mut(|buffer| {
                        let mut buffer = ReadBuf::new(buffer);
                        let read = Pin::new(&mut *reader).poll_read(cx, &mut buffer).map_err(read_failed)?;
                        let filled = buffer.filled();
                        if read.is_pending() || filled.is_empty() {
                            return Ok(read.map(|()| 0));
                        }
                        let written = match Pin::new(&mut *writer).poll_write(cx, filled) {
                            Poll::Ready(count) => nonzero(count).map_err(write_failed)?,
                            Poll::Pending => 0,
                        };
                        self.rest.extend_from_slice(&filled[written..]);
                        Ok(Poll::Ready(filled.len()))
                    })?;
                    match read {
                        Poll::Ready(0) => self.state = State::Ending,
                        Poll::Ready(count) => {
                            self.bytes += count as u64;
                            self.needs_flush = true;
                        }
                        Poll::Pending => {
                            if self.needs_flush {
                                ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(write_failed)?;
                                self.needs_flush = false;
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }
}

fn nonzero(count: io::Result<usize>) -> io::Result<usize> {
    match count {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn limits(idle_timeout: Duration) -> Limits {
        let token = CancellationToken::new;
        Limits { idle_timeout, revoked: token(), leaving: token(), closing: token() }
    }

    async fn silently(_: Why) {}

    #[tokio::test]
    async fn carries_more_than_any_buffer_both_ways() {
        let (client, client_far) = duplex(1_000);
        let (door, door_far) = duplex(700);
        let limits = limits(Duration::from_secs(60));
        let relay = relay(client_far, door_far, &limits, silently);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let ends = async {
            let (mut client_read, mut client_write) = tokio::io::split(client);
            let (mut door_read, mut door_write) = tokio::io::split(door);
            let echo = async {
                tokio::io::copy(&mut door_read, &mut door_write).await.unwrap();
                door_write.shutdown().await.unwrap();
            };
            let write = async {
                client_write.write_all(&sent).await.unwrap();
                client_write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let read = async { client_read.read_to_end(&mut got).await.unwrap() };
            tokio::join!(echo, write, read);
            got
        };
        let (passed, got) = tokio::join!(relay, ends);
        assert!(got == sent);
        let expected = Passed { closed_by: Side::Downstream, up_bytes: 1_000_000, down_bytes: 1_000_000 };
        assert_eq!(passed.unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vanished_client_does_not_pin_a_door_that_holds_on() {
        let (client, client_far) = duplex(100);
        let (_door, door_far) = duplex(100);
        drop(client);
        let limits = limits(Duration::from_secs(3_600));
        let passed =
            tokio::time::timeout(LINGER * 2, relay(client_far, door_far, &limits, silently)).await.unwrap();
        assert_eq!(passed.unwrap().closed_by, Side::Downstream);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_revocation_leaving_and_closing_cut() {
        let (_client, client_far) = duplex(100);
        let (_door, door_far) = duplex(100);
        let silent = limits(Duration::from_secs(60));
        let error = relay(client_far, door_far, &silent, silently).await.unwrap_err();
        assert!(matches!(error, TunnelError::Idle));

        type Cause = fn(&Limits) -> &CancellationToken;
        let causes: [(Cause, &str); 3] = [
            (|limits| &limits.revoked, "Revoked"),
            (|limits| &limits.leaving, "Leaving"),
            (|limits| &limits.closing, "Closing"),
        ];
        for (cause, name) in causes {
            let (_client, client_far) = duplex(100);
            let (_door, door_far) = duplex(100);
            let limits = limits(Duration::from_secs(60));
            cause(&limits).cancel();
            let error = relay(client_far, door_far, &limits, silently).await.unwrap_err();
            assert_eq!(format!("{error:?}"), name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_door_has_a_moment_to_say_why() {
        let (mut client, client_far) = duplex(100);
        let (mut door, door_far) = duplex(100);
        let limits = limits(Duration::from_secs(60));
        limits.revoked.cancel();
        let say_why = async |why: Why| {
            door.write_all(&why.code.to_be_bytes()).await.unwrap();
            door.shutdown().await.unwrap();
        };
        let heard = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            client.shutdown().await.unwrap();
            heard
        };
        let (outcome, heard) = tokio::join!(relay(client_far, door_far, &limits, say_why), heard);
        assert!(matches!(outcome, Err(TunnelError::Revoked)));
        assert_eq!(heard, 4401u16.to_be_bytes());
    }

    #[tokio::test]
    async fn errors_name_the_side() {
        let (_client, client_far) = duplex(100);
        let door = Failing;
        let limits = limits(Duration::from_secs(60));
        let error = relay(client_far, door, &limits, silently).await.unwrap_err();
        assert!(matches!(error, TunnelError::Io { side: Side::Upstream, .. }));
    }

    /// A connection whose other end was reset.
    struct Failing;

    impl AsyncRead for Failing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
