//! The process runtime against the shared suite and against what only it can get wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use reef_model::{InstanceId, Power};
use reef_runtime::{
    Observed, Runtime,
    conformance::{DOOR, Harness, TERMINAL_IDLE, ask, run, spec},
};
use reef_runtime_process::{ProcessConfig, ProcessRuntime};
use serde_json::json;

struct Processes {
    dir: tempfile::TempDir,
}

impl Processes {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The tenant's uid must be able to enter.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let door = dir.path().join("door.py");
        std::fs::write(&door, DOOR).unwrap();
        std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn instance_dir(&self, id: InstanceId) -> PathBuf {
        self.dir.path().join("data/instances").join(id.to_string())
    }

    /// Pids of processes whose command line names the instance's directory.
    fn pids(&self, id: InstanceId) -> Vec<i32> {
        let needle = self.instance_dir(id).display().to_string();
        let names =
            std::fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
        let is_ours = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&needle)
        };
        names.filter_map(|name| name.parse().ok()).filter(is_ours).collect()
    }
}

#[async_trait]
impl Harness for Processes {
    async fn runtime(&self) -> Arc<dyn Runtime> {
        let config = ProcessConfig {
            data_dir: self.dir.path().join("data"),
            instance_bin: self.dir.path().join("door.py"),
            openclaw_dir: self.dir.path().into(),
            allow_bare: true,
            share_network: false,
            terminal_idle: TERMINAL_IDLE,
        };
        Arc::new(ProcessRuntime::new(config).await)
    }

    async fn kill(&self, running: &Observed) {
        let pid = running.handle.split(':').next().unwrap();
        assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
    }

    async fn live(&self, id: InstanceId) -> usize {
        self.pids(id).len()
    }

    async fn traces(&self, id: InstanceId) -> Vec<String> {
        let name = id.to_string();
        let mut traces: Vec<_> = self.pids(id).iter().map(|pid| format!("process {pid}")).collect();
        for dir in ["data/instances", "data/instances/.trash"] {
            let entries = std::fs::read_dir(self.dir.path().join(dir)).into_iter().flatten();
            traces.extend(
                entries.filter_map(|it| it.unwrap().file_name().into_string().ok()).filter(|it| *it == name),
            );
        }
        traces
    }

    async fn clean_up(&self) {
        let runtime = self.runtime().await;
        for observed in runtime.list().await.unwrap() {
            runtime.remove(observed.id).await.unwrap();
        }
    }
}

mod conformance {
    use super::*;

    reef_runtime::conformance_tests!(Processes::new());
}

/// Runs a case that needs the harness itself.
async fn with<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Arc<Processes>) -> F) {
    let harness = Arc::new(Processes::new().await);
    let same = harness.clone();
    run(harness, |_| case(same)).await;
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_has_its_own_session_and_nothing_of_our_environment() {
    with(async |harness: Arc<Processes>| {
        let runtime = harness.runtime().await;
        let spec = spec();
        let observed = runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        ask(&*runtime, spec.id, json!({})).await;
        let pid: i32 = observed.handle.split(':').next().unwrap().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert_eq!(stat.split(' ').nth(5), Some(&*pid.to_string()), "{stat}");
        let environ = String::from_utf8(std::fs::read(format!("/proc/{pid}/environ")).unwrap()).unwrap();
        assert!(!environ.contains("CARGO"), "{environ}");
        let fds: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|it| std::fs::read_link(it.unwrap().path()).ok())
            .filter(|it| it.starts_with("/") && !it.starts_with("/dev"))
            .collect();
        let log = harness.instance_dir(spec.id).canonicalize().unwrap().join("door.log");
        assert!(fds.iter().all(|it| *it == log), "{fds:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_see_their_home_and_nothing_of_the_door() {
    with(async |harness: Arc<Processes>| {
        if !is_root() {
            return;
        }
        let runtime = harness.runtime().await;
        let (spec, other) = (spec(), spec());
        runtime.ensure_started(&other, Duration::ZERO).await.unwrap();
        runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        let (dir, foreign) = (harness.instance_dir(spec.id), harness.instance_dir(other.id));
        let attempt = async |command: String| {
            ask(&*runtime, spec.id, json!({"hands": ["sh", "-c", command]})).await["code"] == 0
        };
        assert!(attempt("test $(id -u) -ge 700000 && touch x ../home/y".into()).await);
        for command in [
            format!("cat {}/run/in/boot.json", dir.display()),
            format!("ls {}/state", dir.display()),
            format!("ls {}/run/out", dir.display()),
            format!("cat {}/door.json", dir.display()),
            format!("cat {}/door.log", dir.display()),
            format!("touch {}/new", dir.display()),
            format!("mv {}/home {}/elsewhere", dir.display(), dir.display()),
            format!("ls {}/workspace", foreign.display()),
            format!("ls {}", foreign.parent().unwrap().display()),
            format!("kill -9 {}", harness.pids(spec.id)[0]),
        ] {
            assert!(!attempt(command.clone()).await, "{command}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_follows_no_link_of_the_tenant() {
    with(async |harness: Arc<Processes>| {
        let runtime = harness.runtime().await;
        let spec = spec();
        let precious = harness.dir.path().join("precious");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("file"), "x").unwrap();
        runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        let link = json!({"hands": ["ln", "-s", precious, "link"]});
        assert_eq!(ask(&*runtime, spec.id, link).await["code"], 0);
        let dir = harness.instance_dir(spec.id);
        symlink(&precious, dir.join("home/link")).unwrap();
        assert!(runtime.remove(spec.id).await.unwrap());
        assert!(precious.join("file").exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_that_outlived_their_door_are_ended_before_the_next_start() {
    with(async |harness: Arc<Processes>| {
        if !is_root() {
            return;
        }
        let runtime = harness.runtime().await;
        let mut spec = spec();
        let observed = runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        let left =
            ask(&*runtime, spec.id, json!({"leave": ["sleep", "1000"]})).await["pid"].as_i64().unwrap();
        harness.kill(&observed).await;
        reef_runtime::conformance::until_stopped(&*runtime, spec.id).await;
        assert!(PathBuf::from(format!("/proc/{left}")).exists());
        spec.generation += 1;
        runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        let state = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    })
    .await;
}

/// As root; where control groups cannot be made, `check` says so.
#[tokio::test(flavor = "multi_thread")]
async fn memory_and_processes_have_limits() {
    with(async |harness: Arc<Processes>| {
        let runtime = harness.runtime().await;
        let unbounded =
            runtime.check().await.into_iter().find(|finding| finding.message.contains("control groups"));
        assert!(!is_root() || unbounded.is_none(), "{unbounded:?}");
        if let Some(finding) = unbounded {
            assert!(!finding.is_fatal);
            return;
        }
        let mut spec = spec();
        spec.limits.memory_bytes = 256 << 20;
        spec.limits.pids = 32;
        runtime.ensure_started(&spec, Duration::ZERO).await.unwrap();
        // The door's own processes come on top of the tenant's, which hands counts by itself.
        let forks = "i=0; while [ $i -lt 400 ]; do sleep 3 & i=$((i+1)); done";
        let hog = "head -c 1G /dev/zero | tail -c 1G > /dev/null";
        for attempt in [forks, hog] {
            let done = ask(&*runtime, spec.id, json!({"hands": ["sh", "-c", attempt]})).await;
            assert_ne!(done["code"], 0, "{attempt}: {done}");
            let observed = runtime.inspect(spec.id).await.unwrap().unwrap();
            assert_eq!(observed.power, Power::Running, "the door lives");
        }
        let small = ask(&*runtime, spec.id, json!({"hands": ["sh", "-c", "exit 0"]})).await;
        assert_eq!(small["code"], 0, "{small}");
        runtime.remove(spec.id).await.unwrap();
        let search = ["/sys/fs/cgroup", "-maxdepth", "6", "-name", &spec.id.to_string()];
        let left = Command::new("find").args(search).output().unwrap().stdout;
        assert!(left.is_empty(), "{}", String::from_utf8_lossy(&left));
    })
    .await;
}

/// A control plane that dies between the record and the release leaves no door; one that dies before the record too.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_leaves_no_door_unrecorded() {
    with(async |harness: Arc<Processes>| {
        let runtime = harness.runtime().await;
        let me = std::env::current_exe().unwrap();
        for round in 0..20u64 {
            let mut child = Command::new(&me)
                .args(["--exact", "starts_one_when_told", "--ignored"])
                .env("REEF_TEST_DIR", harness.dir.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20 + round * 4)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for observed in runtime.list().await.unwrap() {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            loop {
                let now = runtime.inspect(observed.id).await.unwrap().unwrap();
                let pids = harness.pids(observed.id);
                let recorded: Vec<_> =
                    now.handle.split(':').next().into_iter().flat_map(str::parse::<i32>).collect();
                let is_running = now.power == Power::Running;
                if (is_running && pids == recorded) || (!is_running && pids.is_empty()) {
                    break;
                }
                assert!(tokio::time::Instant::now() < deadline, "{now:?} {pids:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn starts_one_when_told() {
    let Some(dir) = std::env::var_os("REEF_TEST_DIR").map(PathBuf::from) else { return };
    let config = ProcessConfig {
        data_dir: dir.join("data"),
        instance_bin: dir.join("door.py"),
        openclaw_dir: dir,
        allow_bare: true,
        share_network: false,
        terminal_idle: TERMINAL_IDLE,
    };
    let runtime = ProcessRuntime::new(config).await;
    loop {
        runtime.ensure_started(&spec(), Duration::ZERO).await.unwrap();
    }
}
