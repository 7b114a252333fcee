//! `reef serve`

mod greeting;

use std::process::ExitCode;

use reef_api::Crowd;
use reef_config::Config;

use crate::{listen, open_files, platform, platform::Platform, stop, telemetry};

/// Serves until a signal; then finishes what it is at.
pub(crate) async fn run(config: Config) -> anyhow::Result<ExitCode> {
    telemetry::start_logs(&config)?;
    if let Err(error) = open_files::raise() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let stop = stop::on_signal()?;
    // First of all: a second server in the same directory must not get further than this.
    let listener = listen::bind(config.server.listen, "REEF_LISTEN").await?;
    let bound = listener.local_addr()?;
    let origin = config.server.origin(bound);
    if let Some(address) = config.server.metrics_listen {
        listen::metrics(address, telemetry::start_metrics()?, stop.closing.clone()).await?;
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }

    let db = platform::database(&config).await?;
    platform::check_server_key(&config, &db).await?;
    let runtime = platform::runtime(&config, &db).await?;
    for finding in runtime.check().await {
        if finding.is_fatal {
            anyhow::bail!("{}", finding.message);
        }
        tracing::info!("{}", finding.message);
    }
    let platform = Platform::new(&config, origin.clone(), db, runtime)?;
    let greeting = greeting::Greeting::prepare(&config, &origin, bound, &platform.control).await?;
    platform.start();
    let crowd = Crowd::new(Platform::caps(&config).address, config.server.trusted_proxies.clone());
    let router = reef_api::router(platform.api.clone());
    let connections = reef_api::serve(listener, router, crowd, stop.closing.clone());
    greeting.print();
    tracing::info!(%origin, runtime = %config.runtime, isolation = %platform.control.runtime().isolation(), "ready");

    stop.asked.cancelled().await;
    platform.api.drain(config.server.shutdown_delay, &stop.closing).await;
    let grace = config.server.shutdown_grace;
    let is_drained = tokio::time::timeout(grace, connections.wait()).await.is_ok();
    if !is_drained {
        tracing::warn!(open = connections.len(), "cutting what is still open after the grace");
    }
    platform.api.close().await;
    platform.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
