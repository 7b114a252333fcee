//! Which instances to look at, each by at most one worker at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reef_model::InstanceId;
use tokio::{sync::Notify, task::AbortHandle, time::sleep};

/// The set of instances to look at. Pushing twice looks once; pushing while being worked on looks once more after.
#[derive(Clone, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeSet<InstanceId>,
    working: BTreeSet<InstanceId>,
    timers: BTreeMap<InstanceId, AbortHandle>,
}

impl Queue {
    /// Asks for a look at `id` as soon as possible.
    pub fn push(&self, id: InstanceId) {
        self.lock().waiting.insert(id);
        self.0.pushed.notify_one();
    }

    /// Asks for a look at `id` after `delay`; replaces an earlier such request.
    pub fn push_after(&self, id: InstanceId, delay: Duration) {
        let queue = self.clone();
        let timer = tokio::spawn(async move {
            sleep(delay).await;
            queue.lock().timers.remove(&id);
            queue.push(id);
        });
        if let Some(earlier) = self.lock().timers.insert(id, timer.abort_handle()) {
            earlier.abort();
        }
    }

    /// Takes the next instance that nobody works on; it is released when the `Turn` is dropped.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken by a dropped call.
    pub async fn take(&self) -> (InstanceId, Turn) {
        loop {
            let pushed = self.0.pushed.notified();
            if let Some(id) = self.try_take() {
                return (id, Turn { queue: self.clone(), id });
            }
            pushed.await;
        }
    }

    fn try_take(&self) -> Option<InstanceId> {
        let mut state = self.lock();
        let id = state.waiting.iter().copied().find(|id| !state.working.contains(id))?;
        state.waiting.remove(&id);
        state.working.insert(id);
        Some(id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the sets half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work on one instance.
pub struct Turn {
    queue: Queue,
    id: InstanceId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.lock().working.remove(&self.id);
        self.queue.0.pushed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_worker_per_instance_and_no_lost_push() {
        let queue = Queue::default();
        let id = InstanceId::generate();
        queue.push(id);
        queue.push(id);
        let (_, turn) = queue.take().await;
        assert!(queue.try_take().is_none());
        queue.push(id);
        assert!(queue.try_take().is_none(), "somebody works on it");
        drop(turn);
        assert_eq!(queue.take().await.0, id);
    }

    #[tokio::test(start_paused = true)]
    async fn the_later_timer_wins() {
        let queue = Queue::default();
        let id = InstanceId::generate();
        queue.push_after(id, Duration::from_secs(1));
        queue.push_after(id, Duration::from_secs(100));
        assert!(tokio::time::timeout(Duration::from_secs(50), queue.take()).await.is_err());
        assert_eq!(queue.take().await.0, id);
    }
}
