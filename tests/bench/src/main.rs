//! `make bench`: Reef's pass-through side by side with nginx `proxy_pass` + `auth_request`, to the same upstream, in one run.
//!
//! The whole real `reef` (release build) is measured: process runtime, database, authentication, routing. Only the
//! instance is not real: this program stands in for `reef-instance` and is started by the runtime as such ([`door`]).
//! Load comes from `wrk`; CPU time is that of the proxy's processes alone (`/proc/PID/stat`).
//!
//! Prints Markdown tables for `docs/performance.md`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]

mod door;
mod load;
mod process;
mod sse;
mod target;

use std::io::Write;

use target::Target;

/// Small answers, and 64 KiB.
const BODIES: [(&str, usize); 2] = [("small", 200), ("64 KiB", 65_536)];
const CONNECTIONS: [u32; 3] = [1, 50, 200];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args.first().map(String::as_str) {
        Some("probe-sandbox") => {
            say(r#"{"isolation":"bubblewrap","bubblewrap":{"works":true},"landlock":{"works":false}}"#)
        }
        Some("door") => runtime.block_on(door::serve_instance(&args)),
        Some("auth") => runtime.block_on(door::serve_auth(args[1].as_ref())),
        _ => runtime.block_on(measure()),
    }
}

async fn measure() {
    // Two sockets per follower and proxy.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let setup = target::Setup::start(dir.path()).await;
    let targets = setup.targets();
    throughput(&targets);
    pinned(&setup, &targets);
    sse_latency(&targets).await;
    sse_memory(&setup, &targets).await;
}

fn throughput(targets: &[Target]) {
    for (body, bytes) in BODIES {
        say(&format!("\n### GET, {body} body\n"));
        say("| | connections | requests/s | × nginx + auth | CPU µs/request | p50 µs | p99 µs |");
        say("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        for connections in CONNECTIONS {
            let results: Vec<_> =
                targets.iter().map(|target| load::run(target, connections, bytes)).collect();
            let yardstick = targets.iter().position(|target| target.is_yardstick).unwrap();
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
}

/// Everything on one core: what a request costs on its way, without the luck of a second core.
fn pinned(setup: &target::Setup, targets: &[Target]) {
    say("\n### GET, small body, 1 connection, everything on one core\n");
    say("| | p50 µs | added µs |");
    say("| --- | ---: | ---: |");
    setup.pin("0");
    let mut direct = None;
    for target in targets {
        let p50 = load::run_pinned(target, BODIES[0].1).p50_micros;
        let base = *direct.get_or_insert(p50);
        say(&format!("| {} | {p50:.0} | {:.0} |", target.name, p50 - base));
    }
    setup.unpin();
}

async fn sse_latency(targets: &[Target]) {
    say("\n### Server-sent events, one per 2 ms\n");
    say("| | p50 µs | p99 µs | added p50 µs |");
    say("| --- | ---: | ---: | ---: |");
    let mut direct = None;
    for target in targets {
        let (p50, p99) = sse::latency(target).await;
        let base = *direct.get_or_insert(p50);
        say(&format!("| {} | {p50} | {p99} | {} |", target.name, p50 - base));
    }
}

async fn sse_memory(setup: &target::Setup, targets: &[Target]) {
    say(&format!("\n### Memory per idle follower of server-sent events, of {}\n", sse::FOLLOWERS));
    say("| | KiB |");
    say("| --- | ---: |");
    for target in targets.iter().filter(|target| !target.pids.is_empty()) {
        say(&format!("| {} | {:.1} |", target.name, sse::kib_per_follower(setup, target).await));
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}
