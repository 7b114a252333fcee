//! A client that stops reading is waited for so long, not without end.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A connection whose writes fail once the peer has taken nothing for a while although bytes wait.
///
/// The timer is made at the first write that waits: a connection that is idle or quick has none.
#[derive(Debug)]
pub struct Patient<T> {
    inner: T,
    patience: Duration,
    waits: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// Wraps a connection whose peer may leave bytes waiting for `patience`.
    pub fn new(inner: T, patience: Duration) -> Self {
        Self { inner, patience, waits: false, timer: None }
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

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
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
        Pin::new(&mut self.inner).poll_shutdown(cx)
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
}
