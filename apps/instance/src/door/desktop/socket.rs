//! A stream socket that hands opened.
//!
//! Hands shares the description, and so could make it block: every call says `MSG_DONTWAIT` (recv(2)), so that the door
//! waits in its reactor and nowhere else.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Wraps what hands sent; fails where that is nothing that can be waited for.
    #[expect(unsafe_code, reason = "the descriptor is owned here, and never another one")]
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }

    /// Returns what has come, 1 to `most` bytes, or nothing at the end. Takes no memory while it waits.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn recv(&self, most: usize) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|fd| {
                let mut bytes = Vec::with_capacity(most);
                recv(fd, rustix::buffer::spare_capacity(&mut bytes), RecvFlags::DONTWAIT)?;
                Ok(bytes)
            });
            if let Ok(received) = received {
                return received;
            }
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Cancel safety
    /// Dropped, a part of them may have been sent.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(sent) = ready.try_io(|fd| Ok(send(fd, bytes, FLAGS)?)) {
                bytes = &bytes[sent?..];
            }
        }
        Ok(())
    }
}

const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let received = ready.try_io(|fd| Ok(recv(fd, into.initialize_unfilled(), RecvFlags::DONTWAIT)?));
            if let Ok(received) = received {
                into.advance(received?.0);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(sent) = ready.try_io(|fd| Ok(send(fd, bytes, FLAGS)?)) {
                return Poll::Ready(sent);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, time::Duration};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn never_blocks_though_the_other_side_wants_it_to() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shared = ours.try_clone().unwrap();
        let mut ours = Socket::new(ours.into()).unwrap();
        shared.set_nonblocking(false).unwrap();
        let short = Duration::from_millis(50);
        // One thread: a call that blocked would never let the timer fire.
        assert!(tokio::time::timeout(short, ours.recv(10)).await.is_err());
        assert!(tokio::time::timeout(short, ours.read_u8()).await.is_err());
        let much = vec![7; 4 << 20];
        assert!(tokio::time::timeout(short, ours.send(&much)).await.is_err());
        assert!(tokio::time::timeout(short, ours.write_all(&much)).await.is_err());
        drop((shared, theirs));
        assert!(ours.send(&much).await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_no_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Socket::new(file.into()).is_err());
    }
}
