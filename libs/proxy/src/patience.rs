//! A client that stops reading is waited for so long, not without end; one that still sends hears why it need not.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a peer that we are done with may go on sending, and how long it may pause.
///
/// Of a peer that has closed its side, or does at once, nobody waits for anything.
const LINGER_TIME: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// What is read at a time of bytes that nobody wants.
const LINGER_BYTES: usize = 16 * 1024;

/// A connection whose writes fail once the peer has taken nothing for a while although bytes wait, and whose end is a
/// lingering close (RFC 9112 §9.6): a refusal that is sent while the body still comes would be lost to the reset that
/// closing with unread bytes is.
///
/// The timers are made at the first write that waits and at the end: a connection that is idle or quick has none.
#[derive(Debug)]
pub struct Patient<T> {
    inner: T,
    patience: Duration,
    waits: bool,
    timer: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

/// Our side is closed; what the peer still sends is read and thrown away.
#[derive(Debug)]
struct Linger {
    until: Instant,
    silent: Pin<Box<Sleep>>,
}

impl<T> Patient<T> {
    /// Wraps a connection whose peer may leave bytes waiting for `patience`.
    pub fn new(inner: T, patience: Duration) -> Self {
        Self { inner, patience, waits: false, timer: None, linger: None }
    }

    fn judge<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(Instant::now() + self.patience);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        let Self { inner, linger, .. } = &mut *self;
        let linger = linger.get_or_insert_with(|| Linger {
            until: Instant::now() + LINGER_TIME,
            silent: Box::pin(tokio::time::sleep(LINGER_SILENCE)),
        });
        let mut unwanted = [const { MaybeUninit::uninit() }; LINGER_BYTES];
        loop {
            let mut unwanted = ReadBuf::uninit(&mut unwanted);
            match Pin::new(&mut *inner).poll_read(cx, &mut unwanted) {
                // The answer is sent and the connection over: how it ends is of no interest.
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if unwanted.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    let silent_at = Instant::now() + LINGER_SILENCE;
                    linger.silent.as_mut().reset(silent_at.min(linger.until));
                    if Instant::now() >= linger.until {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => return linger.silent.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (far, near) = duplex(10);
        let mut near = Patient::new(near, PATIENCE);
        near.write_all(&[0; 10]).await.unwrap();
        let begun = Instant::now();
        let error = near.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_is_not() {
        let (mut far, near) = duplex(10);
        let mut near = Patient::new(near, PATIENCE);
        let read = async {
            for _ in 0..20 {
                tokio::time::sleep(PATIENCE / 2).await;
                far.read_exact(&mut [0; 5]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 100]), read);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_still_sends_is_heard_out() {
        let (mut far, near) = duplex(1024);
        let mut near = Patient::new(near, PATIENCE);
        near.write_all(b"no").await.unwrap();
        let send = async {
            far.write_all(&[0; 100 * 1024]).await.unwrap();
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            drop(far);
            answer
        };
        let (ended, answer) = tokio::join!(near.shutdown(), send);
        ended.unwrap();
        assert_eq!(answer, "no");
    }

    #[tokio::test(start_paused = true)]
    async fn but_not_without_end() {
        let (far, near) = duplex(1024);
        let mut near = Patient::new(near, PATIENCE);
        let begun = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), LINGER_SILENCE.as_secs());
        drop(far);

        let (mut far, near) = duplex(1024);
        let mut near = Patient::new(near, PATIENCE);
        let begun = Instant::now();
        let send = async {
            while far.write_all(&[0; 10]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let ended = async {
            near.shutdown().await.unwrap();
            drop(near);
            begun.elapsed()
        };
        let (took, ()) = tokio::join!(ended, send);
        assert_eq!(took.as_secs(), LINGER_TIME.as_secs());
    }
}
