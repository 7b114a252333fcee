//! Listeners that hands made and the door serves.
//!
//! They come from the tenant's side, and hands keeps a copy of each: it can accept what the door was told is there, or
//! change whether the socket blocks. So each is checked to be a loopback TCP listener, and is accepted on by a thread
//! of its own that may block for ever; accepted sockets are the door's alone.

use std::{
    future::Future,
    io,
    net::{IpAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// Checks that `fd` is a TCP socket that listens on loopback.
///
/// # Errors
/// `InvalidInput` where it is anything else.
pub(crate) fn adopt(fd: OwnedFd) -> io::Result<TcpListener> {
    let listens = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
    let is_stream =
        getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == nix::sys::socket::SockType::Stream);
    let listener = TcpListener::from(fd);
    let is_loopback =
        listener.local_addr().is_ok_and(|at| at.ip().is_loopback() && matches!(at.ip(), IpAddr::V4(_)));
    if listens && is_stream && is_loopback {
        Ok(listener)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a loopback listener"))
    }
}

/// A listener that is being served; dropped, it is closed with its connections.
#[derive(Debug)]
pub(crate) struct Served {
    listener: Arc<TcpListener>,
    is_closed: Arc<AtomicBool>,
    connections: CancellationToken,
}

/// Serves `listener`: `handle` gets each connection, at most `limit` at a time, the rest are closed at once.
pub(crate) fn serve<F>(
    name: &str,
    listener: TcpListener,
    limit: usize,
    handle: impl Fn(TcpStream) -> F + Send + 'static,
) -> io::Result<Served>
where
    F: Future<Output = ()> + Send + 'static,
{
    let served = Served {
        listener: Arc::new(listener),
        is_closed: Arc::default(),
        connections: CancellationToken::new(),
    };
    let (listener, is_closed, connections) =
        (served.listener.clone(), served.is_closed.clone(), served.connections.clone());
    let slots = Arc::new(Semaphore::new(limit));
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = listener.set_nonblocking(false);
        while !is_closed.load(Ordering::Acquire) {
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
            let _guard = runtime.enter();
            let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (work, connections) = (handle(stream), connections.clone());
            runtime.spawn(async move {
                connections.run_until_cancelled(work).await;
                drop(slot);
            });
        }
    })?;
    Ok(served)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Release);
        self.connections.cancel();
        // Wakes the thread from its accept.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::unix::net::UnixListener};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn takes_only_loopback_listeners() {
        adopt(TcpListener::bind("127.0.0.1:0").unwrap().into()).unwrap();
        adopt(TcpListener::bind("0.0.0.0:0").unwrap().into()).unwrap_err();
        adopt(UdpSocket::bind("127.0.0.1:0").unwrap().into()).unwrap_err();
        adopt(std::fs::File::open("/dev/null").unwrap().into()).unwrap_err();
        let dir = tempfile::tempdir().unwrap();
        adopt(UnixListener::bind(dir.path().join("s")).unwrap().into()).unwrap_err();
    }

    #[tokio::test]
    async fn serves_until_dropped_even_if_the_other_side_changes_the_socket() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = theirs.local_addr().unwrap();
        let ours = adopt(theirs.try_clone().unwrap().into()).unwrap();
        let served = serve("test", ours, 1, |mut stream| async move {
            let _ = stream.write_all(b"hi").await;
            let _ = stream.read(&mut [0; 1]).await;
        })
        .unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut first = TcpStream::connect(at).await.unwrap();
        let mut said = [0; 2];
        first.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hi");
        // The one slot is taken.
        let mut second = TcpStream::connect(at).await.unwrap();
        assert_eq!(second.read(&mut said).await.unwrap_or(0), 0);
        drop(served);
        assert_eq!(first.read(&mut said).await.unwrap_or(0), 0);
    }
}
