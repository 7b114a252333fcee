//! The listeners. HTTP/1.1 alone: behind a proxy nothing else comes, and it is the quickest.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
    routing::get,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// How long a client may take to send a request's head, and a kept connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// After an error of the machine, most often too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the address.
pub(crate) async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is taken: stop what listens there, or choose another address with {variable}={}:PORT",
            address.ip()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address} ({variable})")),
    })
}

/// Serves until `stop`; then open connections finish what they are at. Returns a tracker of them at once.
pub(crate) fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> TaskTracker {
    let connections = TaskTracker::new();
    let tracker = connections.clone();
    connections.spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    tracker.spawn(converse(stream, peer, router.clone(), stop.clone()));
                }
                Err(error) if is_of_the_connection(error.kind()) => {}
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tracker.close();
    });
    connections
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Tells whether the one connection failed, not the listener.
fn is_of_the_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Serves the metrics, on a listener of their own.
pub(crate) async fn metrics(
    address: SocketAddr,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = bind(address, "REEF_METRICS_LISTEN").await.context("metrics")?;
    let render = move || {
        let text = metrics.render();
        async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    };
    serve(listener, Router::new().route("/metrics", get(render)), stop);
    Ok(())
}
