//! What the gateway said of a session, until its worker takes it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reef_openclaw::protocol::{Signal, SignalKind};
use tokio::sync::Notify;

/// A queue that never makes the socket's reader wait and yet stays small: a delta carries the whole text, so a newer
/// one takes the place of an older one that was not taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    signals: VecDeque<Signal>,
    is_poked: bool,
}

impl Inbox {
    /// Adds a signal.
    pub(super) fn push(&self, signal: Signal) {
        let mut state = self.state();
        match state.signals.back_mut() {
            Some(last)
                if last.run_id == signal.run_id
                    && matches!((&last.kind, &signal.kind), (SignalKind::Delta(_), SignalKind::Delta(_))) =>
            {
                *last = signal;
            }
            _ => state.signals.push_back(signal),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Takes all signals, waiting for the first.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken unless it is returned.
    pub(super) async fn take(&self) -> VecDeque<Signal> {
        loop {
            let signals = std::mem::take(&mut self.state().signals);
            if !signals.is_empty() {
                return signals;
            }
            self.arrived.notified().await;
        }
    }

    /// Tells the worker to look for turns once more before it leaves.
    pub(super) fn poke(&self) {
        self.state().is_poked = true;
    }

    /// Returns whether it was told so since the last time.
    pub(super) fn take_poke(&self) -> bool {
        std::mem::take(&mut self.state().is_poked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
