//! What the door reports of its instance, and who waits for it to change.

use reef_door::{DoorPhase, DoorStatus};
use reef_model::Isolation;
use tokio::sync::watch;

/// The present [`DoorStatus`].
#[derive(Debug)]
pub(crate) struct StatusBoard(watch::Sender<DoorStatus>);

impl StatusBoard {
    /// Starts at revision 1, `starting`.
    pub(crate) fn new(generation: i64, isolation: Isolation) -> Self {
        Self(watch::Sender::new(DoorStatus {
            revision: 1,
            generation,
            phase: DoorPhase::Starting,
            reason: None,
            isolation,
            openclaw_version: None,
            gateway_restarts: 0,
            active_turns: 0,
            last_active_at: None,
        }))
    }

    /// Changes it; the revision grows only if something else did change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut DoorStatus)) {
        self.0.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            let is_changed = *status != before;
            status.revision = before.revision + u64::from(is_changed);
            is_changed
        });
    }

    /// Sets phase and reason, unless the door is going down already.
    pub(crate) fn set_phase(&self, phase: DoorPhase, reason: Option<String>) {
        self.update(|status| {
            if status.phase != DoorPhase::Draining {
                status.phase = phase;
                status.reason = reason;
            }
        });
    }

    /// Notes that the gateway ended and is started again.
    pub(crate) fn restarting(&self, phase: DoorPhase, reason: String) {
        self.update(|status| {
            status.gateway_restarts += 1;
            if status.phase != DoorPhase::Draining {
                status.phase = phase;
                status.reason = Some(reason);
            }
        });
    }

    /// Returns the present one.
    pub(crate) fn get(&self) -> DoorStatus {
        self.0.borrow().clone()
    }

    /// Returns the first with a revision greater than `after`; pending while there is none.
    pub(crate) async fn newer_than(&self, after: u64) -> DoorStatus {
        let mut changes = self.0.subscribe();
        match changes.wait_for(|status| status.revision > after).await {
            Ok(status) => status.clone(),
            // The sender is `self`, so this cannot come; the present one is right in any case.
            Err(_) => self.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_waiters_on_real_changes_only() {
        let board = StatusBoard::new(7, Isolation::None);
        board.set_phase(DoorPhase::Starting, None);
        assert_eq!(board.get().revision, 1);
        let (newer, ()) = tokio::join!(board.newer_than(1), async {
            board.set_phase(DoorPhase::Ready, None);
        });
        assert_eq!((newer.revision, newer.phase), (2, DoorPhase::Ready));
        board.set_phase(DoorPhase::Draining, None);
        board.set_phase(DoorPhase::Ready, None);
        assert_eq!(board.get().phase, DoorPhase::Draining);
    }
}
