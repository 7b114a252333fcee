//! Starting, dying and stopping.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{As, Instance, door_command, eventually, runs},
    skipped::is_root,
};

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Boot, a killed gateway, a killed door, a fresh door: in one instance, since each boot takes many seconds.
fn lives(isolation: &str, who: As) {
    let mut instance = Instance::start(isolation, who);
    let status = instance.wait_ready();
    assert_eq!(status["isolation"], isolation);
    assert_eq!(status["generation"], 3);
    assert_eq!(status["gateway_restarts"], 0);
    assert_eq!(status["openclaw_version"], "2026.9.6");
    let said = instance.run_in_hands("echo $TENANT_VARIABLE at $HOME; umask");
    assert!(
        said.contains("its value at /") && !said.contains("/not/this") && said.contains("0022"),
        "{said}"
    );

    let gateway = instance.gateway_pid();
    signal(gateway, Signal::SIGKILL);
    let status = instance.wait_status("a restart", |status| status["gateway_restarts"] == 1);
    assert_eq!(status["phase"], "starting");
    assert!(status["reason"].as_str().unwrap().contains("killed"), "{status}");
    instance.wait_ready();
    assert!(instance.run_in_hands("echo again").contains("again"));

    let all = instance.processes();
    assert!(all.len() >= 2, "{all:?}");
    signal(instance.pid(), Signal::SIGKILL);
    instance.door.wait().unwrap();
    eventually("nothing is left of the killed door", Duration::from_secs(10), || !all.iter().any(runs));

    instance.restart(isolation, who);
    instance.wait_ready();
    let all = instance.processes();
    signal(instance.pid(), Signal::SIGTERM);
    assert!(instance.door.wait().unwrap().success(), "{}", instance.door_log());
    assert!(!all.iter().any(runs), "a stopped door leaves nothing");
    let log = instance.door_log();
    for token in [crate::harness::DOOR_TOKEN, crate::harness::GATEWAY_TOKEN] {
        assert!(!log.contains(token));
    }
}

#[test]
fn real_bubblewrap_as_root() {
    if is_root() {
        lives("bubblewrap", As::Root);
    }
}

#[test]
fn real_landlock_as_a_service_user() {
    if is_root() {
        lives("landlock", As::Service);
    }
}

#[test]
fn real_none_keeps_the_users_apart_and_says_why_a_gateway_fails() {
    if !is_root() {
        return;
    }
    let mut instance = Instance::start("none", As::Root);
    instance.wait_ready();
    let said = instance.run_in_hands("grep -E 'Uid|Groups|CapEff|CapPrm|NoNewPrivs' /proc/self/status");
    for line in
        ["Uid:\t54321\t54321", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.lines().any(|line| line.trim() == "Groups:"), "{said}");
    // A configuration that OpenClaw refuses: the reason says so, and the next good one is taken.
    let config = instance.dir.path().join("home/.openclaw/openclaw.json");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replacen('{', "{ \"noSuchKey\": 1,", 1)).unwrap();
    signal(instance.gateway_pid(), Signal::SIGKILL);
    let is_refused =
        |status: &serde_json::Value| status["reason"].as_str().is_some_and(|why| why.contains("exit 78"));
    instance.wait_status("a refused configuration", is_refused);
    std::fs::write(&config, good).unwrap();
    instance.wait_ready();
    let all = instance.processes();
    signal(instance.pid(), Signal::SIGKILL);
    instance.door.wait().unwrap();
    eventually("nothing is left of the killed door", Duration::from_secs(10), || !all.iter().any(runs));
}

#[test]
fn a_door_that_cannot_start_says_so_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["run", "run/in", "run/out"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("run/in/boot.json"), "{").unwrap();
    let output = door_command(dir.path(), "none").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("boot.json"), "{said}");
}

#[test]
fn the_probe_prints_one_line() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_reef-instance"))
        .arg("probe-sandbox")
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(["bubblewrap", "landlock", "none"].contains(&report["isolation"].as_str().unwrap()), "{report}");
    assert!(
        report["bubblewrap"]["works"].is_boolean() && report["landlock"]["works"].is_boolean(),
        "{report}"
    );
}
