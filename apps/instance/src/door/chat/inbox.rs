//! What the gateway said of a session, until its worker takes it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use reef_openclaw::protocol::{Signal, SignalKind};
use tokio::sync::Notify;

/// Bytes that all inboxes of a door hold together.
const HELD_BYTES: usize = 64 << 20;
/// Signals that one inbox holds.
const HELD_SIGNALS: usize = 4096;

/// A queue that never makes the socket's reader wait and yet stays small: a delta carries the whole text, so a newer
/// one takes the place of an older one that was not taken yet; and what is too much is dropped, since the transcript
/// has it all.
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    /// Bytes held by all inboxes.
    held: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    signals: VecDeque<Signal>,
    bytes: usize,
    /// Signals were dropped since the last time.
    has_gap: bool,
    is_poked: bool,
}

impl Inbox {
    /// Makes one that counts in `held` what it holds.
    pub(super) fn new(held: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), held }
    }

    /// Adds a signal.
    pub(super) fn push(&self, signal: Signal) {
        let mut state = self.state();
        if state.signals.back().is_some_and(|last| {
            last.run_id == signal.run_id
                && matches!((&last.kind, &signal.kind), (SignalKind::Delta(_), SignalKind::Delta(_)))
        }) && let Some(last) = state.signals.pop_back()
        {
            self.release(&mut state, last.bytes());
        }
        let bytes = signal.bytes();
        let others = self.held.fetch_add(bytes, Ordering::Relaxed);
        state.bytes += bytes;
        if others + bytes > HELD_BYTES || state.signals.len() == HELD_SIGNALS {
            let all = state.bytes;
            self.release(&mut state, all);
            state.signals = VecDeque::new();
            state.has_gap = true;
        } else {
            state.signals.push_back(signal);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Takes all signals, waiting for the first; `None` when some were dropped.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken unless it is returned.
    pub(super) async fn take(&self) -> Option<VecDeque<Signal>> {
        loop {
            {
                let mut state = self.state();
                if std::mem::take(&mut state.has_gap) {
                    return None;
                }
                if !state.signals.is_empty() {
                    let all = state.bytes;
                    self.release(&mut state, all);
                    return Some(std::mem::take(&mut state.signals));
                }
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

    fn release(&self, state: &mut State, bytes: usize) {
        state.bytes -= bytes;
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(run: &str, kind: SignalKind) -> Signal {
        Signal { session_key: String::new(), run_id: run.to_owned(), kind }
    }

    fn delta(run: &str, bytes: usize) -> Signal {
        signal(run, SignalKind::Delta("x".repeat(bytes)))
    }

    #[tokio::test]
    async fn a_newer_delta_replaces_an_older_one() {
        let held = Arc::<AtomicUsize>::default();
        let inbox = Inbox::new(held.clone());
        for length in 1..100 {
            inbox.push(delta("a", length));
        }
        let taken = inbox.take().await.unwrap();
        assert!(matches!(&taken[0].kind, SignalKind::Delta(text) if text.len() == 99));
        assert_eq!((taken.len(), held.load(Ordering::Relaxed)), (1, 0));
    }

    #[tokio::test]
    async fn what_is_too_much_is_dropped_and_said() {
        let held = Arc::<AtomicUsize>::default();
        let (one, two) = (Inbox::new(held.clone()), Inbox::new(held.clone()));
        one.push(delta("a", HELD_BYTES / 2));
        two.push(delta("b", HELD_BYTES / 4));
        two.push(delta("c", HELD_BYTES / 2));
        assert!(two.take().await.is_none(), "both together hold too much");
        assert!(held.load(Ordering::Relaxed) <= HELD_BYTES);
        assert_eq!(one.take().await.unwrap().len(), 1);
        for _ in 0..=HELD_SIGNALS {
            one.push(signal("a", SignalKind::Status));
        }
        assert!(one.take().await.is_none());
        two.push(delta("d", 10));
        drop((one, two));
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
