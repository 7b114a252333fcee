//! What somebody costs who follows and hears nothing.

use super::say;
use crate::{sse, target::Setup};

pub(crate) async fn run(setup: &Setup) {
    say(&format!("\n### Memory per idle follower of server-sent events, of {}\n", sse::FOLLOWERS));
    say("| | KiB |");
    say("| --- | ---: |");
    for target in setup.targets().iter().filter(|target| !target.pids.is_empty()) {
        say(&format!("| {} | {:.1} |", target.name, sse::kib_per_follower(setup, target).await));
    }
}
