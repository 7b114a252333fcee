//! The way from the door to the gateway: a listener in the private state directory that hands accepts on.

use std::{
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use reef_openclaw::ByteStream;
use serde::Deserialize;
use tokio::{net::UnixStream, sync::watch};

use super::chat::GatewayAccess;

/// How long one health request may take. The gateway has one thread, which a long message can hold for a while.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_BODY_BYTES: usize = 64 * 1024;

/// How the door reaches the gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    socket: PathBuf,
    token: String,
    is_ready: watch::Sender<bool>,
}

impl Gateway {
    /// Makes the way through `state_dir`.
    pub(crate) fn new(state_dir: &Path, token: String) -> Self {
        Self { socket: state_dir.join("gateway.sock"), token, is_ready: watch::Sender::new(false) }
    }

    /// Makes a new listener, for hands to accept on; connections of the old one come to nothing.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        reef_door::socket::bind_private(&self.socket)?.into_std()
    }

    /// Says whether the gateway takes chats.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.send_if_modified(|before| std::mem::replace(before, is_ready) != is_ready);
    }

    /// Tells whether it takes chats at all, and its version.
    pub(crate) async fn probe_ready(&self) -> anyhow::Result<Option<String>> {
        #[derive(Deserialize)]
        struct Readyz {
            ready: bool,
        }
        #[derive(Deserialize)]
        struct Startupz {
            version: Option<String>,
        }
        let (status, body) = self.get("/readyz").await?;
        let readyz: Readyz = serde_json::from_slice(&body).context("not the answer of a gateway")?;
        anyhow::ensure!(status == StatusCode::OK && readyz.ready, "not ready");
        let (_, body) = self.get("/startupz").await?;
        let startupz: Option<Startupz> = serde_json::from_slice(&body).ok();
        let version = startupz.and_then(|answer| answer.version);
        // It is shown to people: a version and nothing longer.
        Ok(version.filter(|text| text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic())))
    }

    /// Tells whether it is alive.
    pub(crate) async fn probe_live(&self) -> anyhow::Result<()> {
        let (status, _) = self.get("/healthz").await?;
        anyhow::ensure!(status == StatusCode::OK, "answers {status}");
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let exchange = async {
            let stream = self.connect().await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = Request::get(path)
                .header(header::HOST, "127.0.0.1")
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
                .header(header::CONNECTION, "close")
                .body(Empty::<Bytes>::new())?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), PROBE_BODY_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            anyhow::Ok((status, body))
        };
        tokio::time::timeout(PROBE_TIMEOUT, exchange).await.context("no answer")?
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        reef_door::socket::connect_nofollow(&self.socket).await
    }
}

impl GatewayAccess for Gateway {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async { Ok(Box::new(self.connect().await?) as Box<dyn ByteStream>) })
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.is_ready.subscribe()
    }
}
