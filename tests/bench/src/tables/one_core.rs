//! Everything on one core: what a request costs on its way, without the luck of a second core.

use super::say;
use crate::{load, target::Setup};

const PATH: &str = "/chat/messages?size=200";

pub(crate) fn run(setup: &Setup) {
    say("\n### GET, small body, 1 connection, everything on one core\n");
    say("| | p50 µs | added µs |");
    say("| --- | ---: | ---: |");
    setup.pin("0");
    let mut direct = None;
    for target in setup.targets() {
        let p50 = load::run_pinned(&target, PATH).p50_micros;
        let base = *direct.get_or_insert(p50);
        say(&format!("| {} | {p50:.0} | {:.0} |", target.name, p50 - base));
    }
    setup.unpin();
}
