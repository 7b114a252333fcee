//! From an authority to a connection; hyper's pool sits on top.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection as Pooled},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::CONNECT_TIMEOUT;

/// A stream of bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A connection to a door.
pub type Connection = Box<dyn Io>;

/// Reaches doors.
///
/// Whether to try again while a door restarts is decided here; [`CONNECT_TIMEOUT`] bounds all attempts of one call.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the door of `id` as started for `generation`.
    ///
    /// # Errors
    /// The cause.
    async fn dial(&self, id: &str, generation: i64) -> io::Result<Connection>;
}

/// The dialer as hyper's connector.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Dialer>);

impl Connector {
    pub(crate) fn new(dialer: impl Dialer) -> Self {
        Self(Arc::new(dialer))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.0.clone();
        Box::pin(async move {
            let named = uri.host().and_then(|host| host.rsplit_once('.'));
            let Some((id, Ok(generation))) = named.map(|(id, generation)| (id, generation.parse())) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the authority of a door"));
            };
            let connection = tokio::time::timeout(CONNECT_TIMEOUT, dialer.dial(id, generation)).await??;
            Ok(Wire(TokioIo::new(connection)))
        })
    }
}

/// A connection as hyper wants it.
pub(crate) struct Wire(TokioIo<Connection>);

impl Pooled for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
