//! Load from `wrk`.

use std::process::Command;

use crate::{
    process::{cpu_micros, family},
    target::Target,
};

const SECONDS: u32 = 4;

/// One run.
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) cpu_micros: Option<f64>,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// Runs for some seconds, after a short warm-up.
pub(crate) fn run(target: &Target, connections: u32, path: &str) -> Load {
    wrk(target, connections, path, 1, &[]);
    let pids = family(&target.pids);
    let before = cpu_micros(&pids);
    let mut load = wrk(target, connections, path, SECONDS, &[]);
    let used = cpu_micros(&pids) - before;
    load.cpu_micros = (!pids.is_empty()).then(|| used as f64 / (load.per_second * f64::from(SECONDS)));
    load
}

/// Runs with one connection from the first core.
pub(crate) fn run_pinned(target: &Target, path: &str) -> Load {
    wrk(target, 1, path, SECONDS, &["taskset", "-c", "0"])
}

fn wrk(target: &Target, connections: u32, path: &str, seconds: u32, through: &[&str]) -> Load {
    let words: Vec<&str> = through.iter().copied().chain(["wrk"]).collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(["-t1", "--latency", "-c", &connections.to_string(), "-d", &format!("{seconds}s")])
        .args(["-H", &format!("Authorization: Bearer {}", target.token)])
        .arg(format!("{}{path}", target.base))
        .output()
        .expect("wrk is installed: apt-get install wrk");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains("Non-2xx"), "{}: {text}", target.name);
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("{label} in {text}")).trim().to_owned()
    };
    Load {
        per_second: after("Requests/sec:").parse().unwrap(),
        cpu_micros: None,
        p50_micros: micros(&after("50%")),
        p99_micros: micros(&after("99%")),
    }
}

/// Reads `28.00us`, `1.20ms` or `2.00s`.
fn micros(text: &str) -> f64 {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().unwrap() * factor;
        }
    }
    panic!("no time: {text}")
}
