//! How late an event arrives.

use super::say;
use crate::{sse, target::Setup};

pub(crate) async fn run(setup: &Setup) {
    say("\n### Server-sent events, one per 2 ms\n");
    say("| | p50 µs | p99 µs | added p50 µs |");
    say("| --- | ---: | ---: | ---: |");
    let mut direct = None;
    for target in setup.targets() {
        let (p50, p99) = sse::latency(&target).await;
        let base = *direct.get_or_insert(p50);
        say(&format!("| {} | {p50} | {p99} | {} |", target.name, p50 - base));
    }
}
