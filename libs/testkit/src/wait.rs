//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen; nothing takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Returns what `look` finds, as soon as it finds something.
///
/// # Panics
/// Where nothing is found in [`PATIENCE`]; `what` says what was missing.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Returns the outcome of something that must end in [`PATIENCE`].
///
/// # Panics
/// Where it does not.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("did not end: {what}"),
    }
}
