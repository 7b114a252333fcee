//! Requests per second and CPU time per request.

use super::say;
use crate::{load, target::Setup};

const CONNECTIONS: [u32; 3] = [1, 50, 200];

pub(crate) fn run(setup: &Setup, body: &str, bytes: usize) {
    let path = format!("/chat/messages?size={bytes}");
    let targets = setup.targets();
    let yardstick = targets.iter().position(|target| target.is_yardstick).unwrap();
    say(&format!("\n### GET, {body} body\n"));
    say("| | connections | requests/s | × nginx + auth | CPU µs/request | p50 µs | p99 µs |");
    say("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for connections in CONNECTIONS {
        let results: Vec<_> = targets.iter().map(|target| load::run(target, connections, &path)).collect();
        for (target, result) in targets.iter().zip(&results) {
            say(&format!(
                "| {} | {connections} | {:.0} | {:.2} | {} | {:.0} | {:.0} |",
                target.name,
                result.per_second,
                result.per_second / results[yardstick].per_second,
                result.cpu_micros.map_or("–".to_owned(), |micros| format!("{micros:.1}")),
                result.p50_micros,
                result.p99_micros,
            ));
        }
    }
}
