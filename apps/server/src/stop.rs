//! Signals: the first asks for an orderly stop, each further one for more haste.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status of a program that a signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// How far a stop is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Cancelled by the first SIGTERM or SIGINT: no new work, please.
    pub(crate) asked: CancellationToken,
    /// Cancelled when no connection is taken any more; by a second signal at the latest.
    pub(crate) closing: CancellationToken,
}

/// Watches for signals; one that comes when the listener is closed ends the process.
pub(crate) fn on_signal() -> anyhow::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let stop = Stop::default();
    let Stop { asked, closing } = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !asked.is_cancelled() {
                tracing::info!("stopping; another signal skips waiting");
                asked.cancel();
            } else if !closing.is_cancelled() {
                closing.cancel();
            } else {
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(stop)
}
