//! Log records and metrics.

use std::io::IsTerminal;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use reef_config::{Config, LogFormat, Source};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Seconds, from a cached answer to a long turn.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0];

/// Writes log records to standard error: for people on a terminal, as JSON elsewhere, unless the operator chose.
pub(crate) fn start_logs(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log.filter).context("REEF_LOG")?;
    let is_terminal = std::io::stderr().is_terminal();
    let is_chosen = config
        .settings()
        .iter()
        .any(|setting| setting.variable == "REEF_LOG_FORMAT" && setting.source != Source::Default);
    let format = match (is_chosen, is_terminal) {
        (true, _) => config.log.format,
        (false, true) => LogFormat::Pretty,
        (false, false) => LogFormat::Json,
    };
    let records = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let records = match format {
        LogFormat::Pretty => records.with_ansi(is_terminal).with_target(false).boxed(),
        LogFormat::Json => records.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(records).try_init().context("cannot start the log")
}

/// Starts to count; without a listener for metrics nothing is counted.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start the metrics")
}
