//! Whether somebody uses the instance otherwise than by chatting: files, commands, and what they type into sockets.
//!
//! Noting it costs one store; a task carries it to the status a little later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use reef_model::Clock;

use super::status::StatusBoard;

/// How late the status may be; idle timeouts are minutes.
const PERIOD: Duration = Duration::from_secs(10);

/// Notes use. Clones note for the same instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<AtomicBool>);

impl Activity {
    /// Notes that the instance is being used.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells the status, for ever.
    pub(crate) async fn tell(self, status: Arc<StatusBoard>, clock: Arc<dyn Clock>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if self.0.swap(false, Ordering::Relaxed) {
                let now = clock.now();
                status.update(|status| status.last_active_at = status.last_active_at.max(Some(now)));
            }
        }
    }
}

/// What a dashboard asks again and again; it is no use of the instance.
const LOOKS: [&str; 2] = ["/vnc/status", "/terminal/sessions"];

/// Notes every request that comes by, but for mere looks.
pub(crate) async fn note(State(activity): State<Activity>, request: Request, next: Next) -> Response {
    if !LOOKS.contains(&request.uri().path()) {
        activity.note();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use reef_model::{Isolation, ManualClock, Timestamp};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn use_shows_in_the_status_and_silence_does_not() {
        let status = Arc::new(StatusBoard::new(1, Isolation::None));
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_micros(1_000_000)));
        let activity = Activity::default();
        tokio::spawn(activity.clone().tell(status.clone(), clock.clone()));
        activity.note();
        let noted = status.newer_than(1).await;
        assert_eq!(noted.last_active_at, Some(clock.now()));
        clock.advance(Duration::from_secs(60));
        assert!(tokio::time::timeout(PERIOD * 3, status.newer_than(noted.revision)).await.is_err());
    }
}
