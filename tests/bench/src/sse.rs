//! Followers of event streams: how late, how heavy.

use std::time::Duration;

use futures_util::StreamExt;
use reef_model::{Clock, SystemClock};

use crate::{
    process::{family, resident_kib},
    target::{Setup, Target},
};

pub(crate) const FOLLOWERS: usize = 1_000;
const EVENTS: usize = 1_500;

/// Returns how many microseconds after it was made an event arrives: median and 99th percentile.
pub(crate) async fn latency(target: &Target) -> (i64, i64) {
    let mut late = Vec::with_capacity(EVENTS);
    let mut stream = follow(target, "").await.bytes_stream();
    while late.len() < EVENTS {
        let bytes = stream.next().await.unwrap().unwrap();
        let now = SystemClock.now().unix_micros();
        for line in String::from_utf8_lossy(&bytes).lines() {
            if let Some(made) = line.strip_prefix("data: ") {
                late.push(now - made.parse::<i64>().unwrap());
            }
        }
    }
    late.sort_unstable();
    (late[late.len() / 2], late[late.len() * 99 / 100])
}

/// Returns what one more idle follower costs the proxy.
pub(crate) async fn kib_per_follower(setup: &Setup, target: &Target) -> f64 {
    // Pools and caches are warm.
    drop(follow(target, "?idle=1").await);
    setup.wait_for_followers(0).await;
    let pids = family(&target.pids);
    let before = resident_kib(&pids);
    let mut open = Vec::new();
    for _ in 0..FOLLOWERS {
        let mut stream = follow(target, "?idle=1").await.bytes_stream();
        stream.next().await.unwrap().unwrap();
        open.push(stream);
    }
    setup.wait_for_followers(FOLLOWERS).await;
    let after = resident_kib(&pids);
    drop(open);
    setup.wait_for_followers(0).await;
    after.saturating_sub(before) as f64 / FOLLOWERS as f64
}

async fn follow(target: &Target, query: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
    let response = client
        .get(format!("{}/chat/events{query}", target.base))
        .bearer_auth(&target.token)
        .send()
        .await
        .unwrap();
    assert!(response.status().is_success(), "{}: {}", target.name, response.status());
    response
}
