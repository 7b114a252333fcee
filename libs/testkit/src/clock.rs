//! A clock that runs with the machine's and can be put ahead of it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use reef_model::{Clock, SystemClock, Timestamp};

/// The machine's clock, ahead by what [`TestClock::advance`] said.
///
/// It does run: rows that change one after the other get different instants.
#[derive(Debug, Default)]
pub struct TestClock {
    ahead_micros: AtomicI64,
}

impl TestClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.ahead_micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let ahead = u64::try_from(self.ahead_micros.load(Ordering::SeqCst)).unwrap_or(0);
        SystemClock.now() + Duration::from_micros(ahead)
    }
}
