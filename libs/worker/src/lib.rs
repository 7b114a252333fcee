//! Drives background work: each job runs periodically and when woken, never twice at once.
//!
//! A job takes no input: it compares what should be with what is. A wake says only "look now"; a lost one costs latency,
//! never correctness. Jobs that must run on one replica alone take a lease themselves (`reef-control`).
//!
//! Shutdown has two steps: the soft token asks jobs to come to an end, the hard one drops them where they stand.

use std::{
    error::Error as StdError,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use reef_model::{Clock, Timestamp};
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why a run of a job failed.
pub type JobError = Box<dyn StdError + Send + Sync>;

/// When a job runs.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// From the end of a run to the next one, unless woken.
    pub period: Duration,
    /// The longest pause after failures; it doubles from a second on.
    pub max_backoff: Duration,
}

impl Schedule {
    /// Runs the job each `period`; after failures within the same.
    pub const fn every(period: Duration) -> Self {
        Self { period, max_backoff: period }
    }
}

/// Runs a job soon, or once more right after the run that is under way.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Asks for a run. Wakes that come together are one.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// How a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The job's name.
    pub name: &'static str,
    /// Whether it is running now.
    pub is_running: bool,
    /// Runs that ended.
    pub run_count: u64,
    /// Of these, failed ones, panics included.
    pub failure_count: u64,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// When the last run ended.
    pub last_run_at: Option<Timestamp>,
    /// How long it took.
    pub last_duration: Duration,
    /// Why it failed, where it did.
    pub last_error: Option<String>,
}

/// All jobs of this process.
#[derive(Clone)]
pub struct Workers(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    jobs: Mutex<Vec<Arc<Mutex<Status>>>>,
}

impl Workers {
    /// Returns a set without jobs.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            clock,
            tasks: TaskTracker::new(),
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            jobs: Mutex::default(),
        }))
    }

    /// Runs `job` from now on: at once, then as `schedule` says and when woken. The job is handed the soft token.
    ///
    /// A failed run is logged and repeated after a growing pause; a panic counts as one.
    pub fn spawn<J, F>(&self, name: &'static str, schedule: Schedule, job: J) -> Wake
    where
        J: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let wake = Wake::default();
        let status = Arc::new(Mutex::new(Status {
            name,
            is_running: false,
            run_count: 0,
            failure_count: 0,
            failures_in_a_row: 0,
            last_run_at: None,
            last_duration: Duration::ZERO,
            last_error: None,
        }));
        lock(&self.0.jobs).push(status.clone());
        let hard = self.0.hard.clone();
        let drive = drive(self.0.clone(), schedule, wake.clone(), status, job);
        self.0.tasks.spawn(async move { hard.run_until_cancelled(drive).await });
        wake
    }

    /// Runs `service`, which loops by itself, until the soft token ends it; a panic is logged and it is started again.
    pub fn spawn_service<S, F>(&self, name: &'static str, mut service: S)
    where
        S: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let soft = self.0.soft.clone();
        self.spawn(name, Schedule::every(Duration::from_secs(1)), move |token| {
            let (running, soft) = (service(token), soft.clone());
            async move {
                running.await;
                if soft.is_cancelled() { Ok(()) } else { Err("ended by itself".into()) }
            }
        });
    }

    /// Returns how each job does, in the order in which they were started.
    pub fn statuses(&self) -> Vec<Status> {
        lock(&self.0.jobs).iter().map(|status| lock(status).clone()).collect()
    }

    /// Ends all jobs: those that do not end within `grace` are dropped. Returns whether all ended by themselves.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.tasks.close();
        self.0.soft.cancel();
        let is_graceful = tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok();
        self.0.hard.cancel();
        self.0.tasks.wait().await;
        is_graceful
    }
}

async fn drive<J, F>(
    inner: Arc<Inner>,
    schedule: Schedule,
    wake: Wake,
    status: Arc<Mutex<Status>>,
    mut job: J,
) where
    J: FnMut(CancellationToken) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    while !inner.soft.is_cancelled() {
        // The wake keeps a permit: one taken before the job looks is served by this run, one that comes while it
        // looks by the next.
        let _ = wake.0.notified().now_or_never();
        lock(&status).is_running = true;
        let started = Instant::now();
        let run = AssertUnwindSafe(async { job(inner.soft.clone()).await }).catch_unwind().await;
        let outcome = run.unwrap_or_else(|panic| Err(format!("panicked: {}", text_of(&*panic)).into()));
        let failures = record(&inner, &status, started.elapsed(), outcome);
        let pause = pause(schedule, failures);
        tokio::select! {
            () = inner.soft.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            // A job that fails is not driven faster by wakes.
            () = wake.0.notified(), if failures == 0 => {}
        }
    }
}

fn record(inner: &Inner, status: &Mutex<Status>, took: Duration, outcome: Result<(), JobError>) -> u32 {
    let mut status = lock(status);
    status.is_running = false;
    status.run_count += 1;
    status.last_run_at = Some(inner.clock.now());
    status.last_duration = took;
    match outcome {
        Ok(()) => (status.failures_in_a_row, status.last_error) = (0, None),
        Err(error) => {
            status.failure_count += 1;
            status.failures_in_a_row = status.failures_in_a_row.saturating_add(1);
            tracing::warn!(job = status.name, error = &*error as &dyn StdError, "job failed");
            status.last_error = Some(error.to_string());
        }
    }
    status.failures_in_a_row
}

/// The time to the next run: replicas that started together drift apart by a tenth.
fn pause(schedule: Schedule, failures: u32) -> Duration {
    let base = match failures {
        0 => schedule.period,
        n => Duration::from_secs(1 << n.saturating_sub(1).min(16)).min(schedule.max_backoff),
    };
    base.mul_f64(rand::random_range(0.9..=1.1))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something that is no text")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use reef_model::ManualClock;

    use super::*;

    fn workers() -> Workers {
        Workers::new(Arc::new(ManualClock::new(Timestamp::from_unix_micros(0))))
    }

    fn counting(workers: &Workers, period: Duration) -> (Arc<AtomicU32>, Wake) {
        let count = Arc::new(AtomicU32::new(0));
        let wake = workers.spawn("count", Schedule::every(period), {
            let count = count.clone();
            move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                async { Ok(()) }
            }
        });
        (count, wake)
    }

    #[tokio::test(start_paused = true)]
    async fn runs_at_once_periodically_and_when_woken() {
        let workers = workers();
        let (count, wake) = counting(&workers, Duration::from_secs(100));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokio::time::sleep(Duration::from_secs(111)).await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
        wake.wake();
        wake.wake();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(count.load(Ordering::SeqCst), 3);
        assert!(workers.shutdown(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_during_a_run_is_not_lost_and_runs_do_not_overlap() {
        let workers = workers();
        let (active, runs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let wake = workers.spawn("slow", Schedule::every(Duration::from_secs(1_000)), {
            let (active, runs) = (active.clone(), runs.clone());
            move |_| {
                let (active, runs) = (active.clone(), runs.clone());
                async move {
                    assert_eq!(active.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    active.fetch_sub(1, Ordering::SeqCst);
                    runs.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        wake.wake();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn panics_and_errors_are_counted_and_do_not_end_the_job() {
        let workers = workers();
        let count = Arc::new(AtomicU32::new(0));
        workers.spawn("flaky", Schedule::every(Duration::from_secs(60)), {
            let count = count.clone();
            move |_| {
                let run = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    match run {
                        0 => panic!("first"),
                        1 => Err("second".into()),
                        _ => Ok(()),
                    }
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(workers.statuses()[0].last_error.as_deref(), Some("panicked: first"));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let status = workers.statuses().remove(0);
        assert_eq!((status.run_count, status.failure_count, status.failures_in_a_row), (3, 2, 0));
        assert_eq!(status.last_error, None);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_asks_and_then_insists() {
        let workers = workers();
        workers.spawn_service("polite", |soft| async move { soft.cancelled().await });
        assert!(workers.clone().shutdown(Duration::from_secs(1)).await);
        let workers = self::workers();
        workers.spawn_service("stubborn", |_| std::future::pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!workers.shutdown(Duration::from_secs(1)).await);
    }

    #[test]
    fn backoff_is_bounded() {
        let schedule = Schedule { period: Duration::from_secs(5), max_backoff: Duration::from_secs(30) };
        assert!(pause(schedule, 1) < Duration::from_secs(2));
        assert!(pause(schedule, u32::MAX) <= Duration::from_secs(33));
    }
}
