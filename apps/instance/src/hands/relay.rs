//! Carries bytes between the door's listener and the gateway's loopback port; reads none of them.

use std::{
    net::Ipv4Addr,
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::net::{TcpStream, UnixStream};

const BUFFER_BYTES: usize = 32 * 1024;

/// The running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    port: Arc<AtomicU16>,
}

impl Relay {
    /// Starts to accept; connections are closed at once while no port is set.
    pub(crate) fn start(listener: UnixListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let port = Arc::new(AtomicU16::new(0));
        let relay = Self { port: port.clone() };
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((downstream, _)) => {
                        tokio::spawn(carry(downstream, port.load(Ordering::Relaxed)));
                    }
                    // Out of descriptors: wait for some to be closed.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Ok(relay)
    }

    /// Sets the port of the present gateway.
    pub(crate) fn set_port(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }
}

async fn carry(mut downstream: UnixStream, port: u16) {
    let Ok(mut upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let _ = upstream.set_nodelay(true);
    // Either end ends it; both sides see the close, which is all that there is to say.
    let _ =
        tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES)
            .await;
}
