//! `make bench`: Reef's pass-through side by side with nginx `proxy_pass` + `auth_request`, to the same upstream, in one run.
//!
//! The whole real `reef` (release build) is measured: process runtime, database, authentication, routing. For the
//! pass-through only the instance is not real: this program stands in for `reef-instance` and is started by the runtime
//! as such ([`door`]). What an instance serves is measured with the real one ([`workbench`]).
//! Load comes from `wrk`; CPU time is that of the proxy's processes alone (`/proc/PID/stat`).
//!
//! Prints Markdown tables for `docs/performance.md`: all of them, or those that the arguments name ([`TABLES`]). With
//! `hold` it prints what to ask whom instead, and waits: for a profiler.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]

mod door;
mod load;
mod process;
mod sse;
mod tables;
mod target;
mod workbench;

use tables::{desktop, events, files, key_check, memory, one_core, pass_through, say, terminals};

/// In the order in which they are printed.
const TABLES: [&str; 9] =
    [KEY_TABLE, "small", "large", "one-core", "events", "memory", "files", "terminals", "desktop"];
/// The one that needs no server.
const KEY_TABLE: &str = "key-check";
/// Those that are measured with a real instance.
const INSTANCE_TABLES: [&str; 3] = ["files", "terminals", "desktop"];

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
        Some("hold") => runtime.block_on(hold()),
        _ => {
            for arg in &args {
                assert!(TABLES.contains(&arg.as_str()), "no table {arg}: there are {}", TABLES.join(", "));
            }
            let is_wanted = |table: &&str| args.is_empty() || args.iter().any(|arg| arg == table);
            runtime.block_on(measure(TABLES.into_iter().filter(is_wanted)));
        }
    }
}

async fn measure(wanted: impl Iterator<Item = &str>) {
    let (of_key, wanted): (Vec<_>, Vec<_>) = wanted.partition(|table| *table == KEY_TABLE);
    if !of_key.is_empty() {
        key_check::run().await;
    }
    let (of_reef, of_instance): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|table| !INSTANCE_TABLES.contains(table));
    if !of_reef.is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let setup = start(dir.path()).await;
        for table in of_reef {
            match table {
                "small" => pass_through::run(&setup, "small", 200),
                "large" => pass_through::run(&setup, "64 KiB", 65_536),
                "one-core" => one_core::run(&setup),
                "events" => events::run(&setup).await,
                "memory" => memory::run(&setup).await,
                other => unreachable!("{other} is not in TABLES"),
            }
        }
    }
    if !of_instance.is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let bench = workbench::Workbench::start(dir.path()).await;
        for table in of_instance {
            match table {
                "files" => files::run(&bench).await,
                "terminals" => terminals::run(&bench).await,
                "desktop" => desktop::run(&bench).await,
                other => unreachable!("{other} is not in INSTANCE_TABLES"),
            }
        }
    }
}

async fn hold() {
    let dir = tempfile::tempdir().unwrap();
    let setup = start(dir.path()).await;
    for target in setup.targets() {
        let (name, base, token, pids) = (target.name, target.base, target.token, target.pids);
        say(&format!("{name} {pids:?}: wrk -H 'Authorization: Bearer {token}' {base}/chat/messages"));
    }
    tokio::signal::ctrl_c().await.unwrap();
}

async fn start(dir: &std::path::Path) -> target::Setup {
    // Two sockets per follower and proxy.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    target::Setup::start(dir).await
}
