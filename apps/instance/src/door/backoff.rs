//! How long to wait before the gateway is started again.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length counts as a good one.
const STABLE: Duration = Duration::from_secs(60);
/// From this many bad runs in a row on the instance is `failing`, not `starting`.
const FAILING_AFTER: u32 = 3;

/// Bad runs in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes the end of a run that began to serve at `ready_since`; returns how long to wait.
    pub(crate) fn ended(&mut self, ready_since: Option<Instant>) -> Duration {
        if ready_since.is_some_and(|since| since.elapsed() >= STABLE) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
        // Many instances that fail for one reason must not come back at one moment.
        wait.mul_f64(rand::rng().random_range(0.75..1.25))
    }

    /// Tells whether it fails again and again.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures >= FAILING_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn grows_to_a_limit_and_resets_after_a_good_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.ended(None)).collect();
        assert!(waits[0] < Duration::from_secs(1));
        assert!(waits[11] >= LONGEST.mul_f64(0.75) && waits[11] <= LONGEST.mul_f64(1.25));
        assert!(backoff.is_failing());
        let since = Instant::now();
        tokio::time::advance(STABLE).await;
        assert!(backoff.ended(Some(since)) < Duration::from_secs(1));
        assert!(!backoff.is_failing());
    }
}
