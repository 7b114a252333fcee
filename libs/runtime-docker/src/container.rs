//! The container of an instance: how it is confined, and what the engine says of it.

use std::{collections::HashMap, time::Duration};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig,
    Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use reef_door::RunDir;
use reef_model::{InstanceId, Power};
use reef_runtime::{Exit, InstanceSpec, Observed, door::arguments};

use crate::engine::{GENERATION, Ownership, TENANT, instance};

/// User and group of hands in every image.
const HANDS: &str = "10001";

/// The volumes: suffix of the name, and where the image has the directory whose owner and mode a new volume takes.
pub(crate) const VOLUMES: [(&str, &str); 3] =
    [("home", "/home/claw"), ("workspace", "/workspace"), ("state", "/var/lib/reef")];

/// Returns the name of an instance's container; volumes add a suffix.
pub(crate) fn name(id: InstanceId) -> String {
    format!("reef-{}", id.as_uuid())
}

/// Describes the container: the door as user 0 with three capabilities, so that it can start hands as another user with
/// none; nothing can gain a privilege; nothing but volumes and memory can be written.
pub(crate) fn body(
    spec: &InstanceSpec,
    image: &str,
    ownership: &Ownership,
    network: String,
    run_dir: &RunDir,
    cpus: u32,
    terminal_idle: Duration,
) -> ContainerCreateBody {
    let command = [
        ["--run-dir", "/run/reef"],
        ["--state-dir", "/var/lib/reef"],
        ["--home", "/home/claw"],
        ["--workspace", "/workspace"],
        ["--openclaw", "/opt/openclaw"],
        ["--isolation", "container"],
        ["--hands-uid", HANDS],
        ["--hands-gid", HANDS],
    ];
    let command = command.into_iter().flatten().map(str::to_owned);
    let common = arguments(terminal_idle).into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let mut labels = ownership.labels(spec.id);
    labels.insert(TENANT.into(), spec.tenant.to_string());
    labels.insert(GENERATION.into(), spec.generation.to_string());
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/usr/local/bin/reef-instance".into()]),
        cmd: Some(std::iter::once("door".to_owned()).chain(command).chain(common).collect()),
        user: Some("0:0".into()),
        hostname: Some("claw".into()),
        stop_signal: Some("SIGTERM".into()),
        labels: Some(labels),
        host_config: Some(host_config(spec, network, run_dir, cpus)),
        ..Default::default()
    }
}

fn host_config(spec: &InstanceSpec, network: String, run_dir: &RunDir, cpus: u32) -> HostConfig {
    let strings = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let map = |pairs: &[(&str, &str)]| -> Option<HashMap<String, String>> {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    };
    let ulimit = |name: &str, value| ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(value),
        hard: Some(value),
    };
    let memory = i64::try_from(spec.limits.memory_bytes).unwrap_or(i64::MAX);
    // The engine refuses more than the machine has.
    let cpu_millis = spec.limits.cpu_millis.min(cpus.saturating_mul(1_000));
    let tmp = "rw,nosuid,nodev,size=256m,mode=1777";
    let claw = format!("rw,nosuid,nodev,noexec,size=16m,mode=0700,uid={HANDS},gid={HANDS}");
    HostConfig {
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&["SETUID", "SETGID", "KILL"]),
        security_opt: strings(&["no-new-privileges"]),
        readonly_rootfs: Some(true),
        tmpfs: map(&[("/tmp", tmp), ("/run/claw", &claw)]),
        mounts: Some(mounts(spec.id, run_dir)),
        network_mode: Some(network),
        // The owner of the boot file must be the container's user 0 where the engine maps users.
        userns_mode: Some("host".into()),
        pids_limit: Some(i64::from(spec.limits.pids)),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(cpu_millis) * 1_000_000),
        ulimits: Some(vec![ulimit("nofile", 4096), ulimit("core", 0)]),
        init: Some(true),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: map(&[("max-size", "5m"), ("max-file", "2")]),
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..Default::default()
    }
}

fn mounts(id: InstanceId, run_dir: &RunDir) -> Vec<Mount> {
    let bind = |source: std::path::PathBuf, target: &str, is_read_only| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.into()),
        read_only: Some(is_read_only),
        ..Default::default()
    };
    let volumes = VOLUMES.map(|(suffix, target)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(format!("{}-{suffix}", name(id))),
        target: Some(target.into()),
        ..Default::default()
    });
    let sockets =
        [bind(run_dir.inward(), "/run/reef/in", true), bind(run_dir.outward(), "/run/reef/out", false)];
    volumes.into_iter().chain(sockets).collect()
}

/// One container of ours as the engine has it.
#[derive(Debug)]
pub(crate) struct Found {
    /// All 64 digits: a shorter name could be matched as a prefix of another container's id.
    pub(crate) handle: String,
    pub(crate) status: ContainerStateStatusEnum,
    pub(crate) observed: Observed,
}

impl Found {
    /// Reads an inspection; `None` where it is not a container of an instance.
    pub(crate) fn read(inspected: ContainerInspectResponse) -> Option<Self> {
        let handle = inspected.id?;
        let labels = inspected.config?.labels?;
        let state = inspected.state?;
        let status = state.status?;
        let power = match status {
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING => Power::Running,
            ContainerStateStatusEnum::PAUSED => Power::Paused,
            ContainerStateStatusEnum::EMPTY
            | ContainerStateStatusEnum::CREATED
            | ContainerStateStatusEnum::REMOVING
            | ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD => Power::Stopped,
        };
        // The engine writes year 1 for never.
        let started_at =
            state.started_at.filter(|at| !at.starts_with("0001-")).and_then(|at| at.parse().ok());
        let has_ended = power == Power::Stopped && started_at.is_some();
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        // The engine's mark is that of any process in it: the container may well have survived, and ended otherwise.
        let is_oom = state.oom_killed.unwrap_or_default() && code == 128 + 9;
        let exit = has_ended.then_some(Exit { code, is_oom });
        let observed = Observed {
            id: instance(&labels)?,
            handle: handle.clone(),
            generation: labels.get(GENERATION)?.parse().ok()?,
            power,
            started_at,
            exit,
        };
        Some(Self { handle, status, observed })
    }
}
