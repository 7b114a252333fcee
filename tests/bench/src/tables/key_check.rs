//! What it costs to know a key that was used before, with the real cache and a database of SQLite.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use reef_testkit::{Platform, RateLimits, Setup, TestDatabase};

use super::say;

const CHECKS: usize = 200_000;

pub(crate) async fn run() {
    let limits = RateLimits::with(|_| (u32::MAX, Duration::from_secs(1)));
    let setup = Setup { limits, ..Setup::default() };
    let platform = Platform::start_with(TestDatabase::sqlite().await, setup).await;
    let account = platform.account("ada").await;
    let request = http::Request::get("/api/instances")
        .header("authorization", format!("Bearer {}", account.secret))
        .body(())
        .unwrap();
    let (mut parts, ()) = request.into_parts();
    platform.api().check(&mut parts).await.unwrap();
    // One look and it is there: a query would have to be waited for.
    let mut check = || platform.api().check(&mut parts).now_or_never().expect("no query").unwrap();

    let mut took = Vec::with_capacity(CHECKS);
    let allocated = allocation_counter::measure(|| {
        for _ in 0..CHECKS {
            let begun = Instant::now();
            check();
            took.push(begun.elapsed());
        }
    });
    took.sort_unstable();
    say("\n### Check of a warm key: header, cache, expiry, scope, rate limit, note of its use\n");
    say("| p50 µs | p99 µs | allocations |");
    say("| ---: | ---: | ---: |");
    let micros = |percent: usize| took[CHECKS * percent / 100].as_secs_f64() * 1e6;
    let allocations = allocated.count_total as f64 / CHECKS as f64;
    say(&format!("| {:.2} | {:.2} | {allocations:.2} |", micros(50), micros(99)));
    platform.finish().await;
}
