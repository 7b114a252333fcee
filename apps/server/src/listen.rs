//! The addresses that `reef serve` listens at.

use std::{io::ErrorKind, net::SocketAddr};

use anyhow::Context;
use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use reef_api::Crowd;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
    reef_api::serve(
        listener,
        Router::new().route("/metrics", get(render)),
        Crowd::new(u32::MAX, Vec::new()),
        stop,
    );
    Ok(())
}
