//! From a name to a connection.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

/// A stream of bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A connection to a door.
pub type Connection = Box<dyn Io>;

/// Reaches doors.
///
/// Whether to try again while a door restarts is decided here; [`crate::CONNECT_TIMEOUT`] bounds all attempts of one call.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the door of the instance `id` as started for `generation`.
    ///
    /// # Errors
    /// The cause.
    async fn dial(&self, id: Uuid, generation: i64) -> io::Result<Connection>;
}
