//! Bodies both ways: the peers' own, watched.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{BodyError, Call, PipeError, pool::Lease};

/// The door's body, cut when the caller's rights end and when the door falls silent.
///
/// A body that is there at once arms no timer; the watch is made when it is first waited for.
pub struct DoorBody<B> {
    inner: Incoming,
    /// The connection that it comes from; none after an upgrade.
    lease: Option<Lease<B>>,
    idle_timeout: Duration,
    revoked: CancellationToken,
    watch: Option<Pin<Box<Watch>>>,
    has_moved: bool,
}

struct Watch {
    sleep: Pin<Box<Sleep>>,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    moved_at: Instant,
}

impl<B> DoorBody<B> {
    pub(crate) fn new(inner: Incoming, lease: Option<Lease<B>>, call: &Call) -> Self {
        Self {
            inner,
            lease,
            idle_timeout: call.idle_timeout,
            revoked: call.revoked.clone(),
            watch: None,
            has_moved: true,
        }
    }

    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Self { watch, revoked, idle_timeout, has_moved, .. } = self;
        let watch = watch.get_or_insert_with(|| {
            Box::pin(Watch {
                sleep: Box::pin(tokio::time::sleep(*idle_timeout)),
                revoked: Box::pin(revoked.clone().cancelled_owned()),
                moved_at: Instant::now(),
            })
        });
        if std::mem::take(has_moved) {
            watch.moved_at = Instant::now();
        }
        if watch.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(BodyError::Revoked);
        }
        // The timer is moved when it fires, not with each frame.
        loop {
            ready!(watch.sleep.as_mut().poll(cx));
            let deadline = watch.moved_at + *idle_timeout;
            if deadline <= Instant::now() {
                return Poll::Ready(BodyError::Idle);
            }
            watch.sleep.as_mut().reset(deadline);
        }
    }
}

impl<B> Body for DoorBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.inner).poll_frame(cx);
        if let (Poll::Pending, Some(lease)) = (&frame, &mut this.lease) {
            lease.drive(cx);
            frame = Pin::new(&mut this.inner).poll_frame(cx);
        }
        if let Poll::Ready(frame) = frame {
            this.has_moved = true;
            // A stream that always has more is never waited for.
            if this.revoked.is_cancelled() {
                return Poll::Ready(Some(Err(BodyError::Revoked)));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)));
        }
        this.poll_watch(cx).map(|error| Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What is sent to a door.
pub(crate) enum RequestBody<B> {
    /// The client's body, which tells whether it moves.
    Clients { inner: B, progress: Option<Progress> },
    /// Ours.
    Own(Option<Bytes>),
}

impl<B: Body> RequestBody<B> {
    /// Wraps the body; a request without one has no progress to watch.
    pub(crate) fn new(inner: B) -> (Self, Option<Progress>) {
        let progress = (!inner.is_end_stream()).then(Progress::default);
        (Self::Clients { inner, progress: progress.clone() }, progress)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut *self {
            Self::Clients { inner, progress } => {
                let frame = Pin::new(inner).poll_frame(cx);
                if let Some(progress) = progress {
                    progress.polled(frame.is_ready());
                }
                frame
            }
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Clients { inner, .. } => inner.is_end_stream(),
            Self::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Clients { inner, .. } => inner.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if let Self::Clients { progress: Some(progress), .. } = self {
            progress.0.done.notify_one();
        }
    }
}

/// Whether a request body moves, and who is waited for where it does not.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    has_moved: AtomicBool,
    waits_for_client: AtomicBool,
    done: Notify,
}

impl Progress {
    fn polled(&self, is_ready: bool) {
        self.0.waits_for_client.store(!is_ready, Ordering::Relaxed);
        if is_ready {
            self.0.has_moved.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether the body moved since the last call.
    pub(crate) fn take_moved(&self) -> bool {
        self.0.has_moved.swap(false, Ordering::Relaxed)
    }

    /// Returns the error for a body that does not move.
    pub(crate) fn stall(&self) -> PipeError {
        if self.0.waits_for_client.load(Ordering::Relaxed) {
            PipeError::UploadStalled
        } else {
            PipeError::HeadTimeout
        }
    }

    /// Waits until the body is over, sent or given up; for one waiter.
    pub(crate) async fn done(&self) {
        self.0.done.notified().await;
    }
}
