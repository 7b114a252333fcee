//! Client of a real OpenClaw gateway: its WebSocket RPC, as measured with OpenClaw 2026.9.6.
//!
//! The gateway listens on a loopback port of the tenant's side; the caller brings the byte stream ([`ByteStream`]), so this
//! crate knows no sockets. It is not a model of all of OpenClaw: [`protocol`] has the rows and events that chat needs,
//! read leniently (what is unknown is ignored), and [`Client::call`] takes any method. To use one more method, add a
//! function to [`Client`] and its answer to [`protocol`].

mod client;
pub mod protocol;

use tokio::io::{AsyncRead, AsyncWrite};

pub use client::{CallError, Client, ConnectError, Events};

/// A byte stream to the gateway.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}
