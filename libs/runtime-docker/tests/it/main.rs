//! The Docker runtime against the shared suite and against a hostile tenant, on a real engine.
//!
//! The image is the platform's own with the stand-in in the place of `reef-instance`, so its users and directories are
//! those of production.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    sync::Arc,
};

use async_trait::async_trait;
use reef_model::InstanceId;
use reef_runtime::{
    Observed, Runtime,
    conformance::{DOOR, Harness, TERMINAL_IDLE},
};
use reef_runtime_docker::{DockerConfig, DockerRuntime};

mod attempts;

const IMAGE: &str = "reef-fake-door:test";

struct Containers {
    dir: tempfile::TempDir,
    deployment: String,
}

impl Containers {
    async fn new() -> Self {
        build_image();
        Self { dir: tempfile::tempdir().unwrap(), deployment: format!("test-{}", InstanceId::generate()) }
    }

    fn config(&self) -> DockerConfig {
        DockerConfig {
            host: host(),
            data_dir: self.dir.path().into(),
            deployment: self.deployment.clone(),
            image: IMAGE.into(),
            subnets: Ipv4Addr::new(10, 213, 0, 0),
            resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap(),
            terminal_idle: TERMINAL_IDLE,
        }
    }

    /// Lists objects of this test's deployment.
    fn list(&self, kind: &str, extra: &[&str]) -> Vec<String> {
        let deployment = format!("label=reef.deployment={}", self.deployment);
        let output = docker_output(&[&[kind, "ls", "--quiet", "--filter", &deployment], extra].concat());
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
    }

    /// Removes whatever this test made; the engine outlives it.
    fn remove_all(&self) {
        for (kind, extra) in [("container", &["--all"][..]), ("volume", &[]), ("network", &[])] {
            for name in self.list(kind, extra) {
                docker_output(&[kind, "rm", "--force", &name]);
            }
        }
    }
}

fn host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

fn docker_output(args: &[&str]) -> Output {
    Command::new("docker").env("DOCKER_BUILDKIT", "0").args(args).output().unwrap()
}

fn docker(args: &[&str]) -> String {
    let output = docker_output(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "docker {args:?}: {error} (type `infra/setup/docker.sh` to start an engine)"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn build_image() {
    let base = std::env::var("REEF_INSTANCE_IMAGE").unwrap_or_else(|_| "reef-instance:dev".into());
    docker(&["version"]);
    assert!(
        docker_output(&["image", "inspect", &base]).status.success(),
        "the engine has no image {base}: type `infra/images/build.sh dev`"
    );
    let context = tempfile::tempdir().unwrap();
    let door = context.path().join("door.py");
    std::fs::write(&door, DOOR).unwrap();
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o755)).unwrap();
    // With a program that makes whoever runs it root, were that possible.
    let file = format!(
        "FROM {base}\nUSER 0\nRUN cp /usr/bin/id /usr/local/bin/root-id && chmod 4755 /usr/local/bin/root-id\n\
         COPY door.py /usr/local/bin/reef-instance\n"
    );
    std::fs::write(context.path().join("Dockerfile"), file).unwrap();
    docker(&["build", "--quiet", "--tag", IMAGE, context.path().to_str().unwrap()]);
}

#[async_trait]
impl Harness for Containers {
    async fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(DockerRuntime::connect(self.config()).await.unwrap())
    }

    async fn kill(&self, running: &Observed) {
        docker(&["kill", "--signal", "KILL", &running.handle]);
    }

    async fn live(&self, id: InstanceId) -> usize {
        self.list("container", &["--filter", &format!("label=reef.instance={id}")]).len()
    }

    async fn traces(&self, id: InstanceId) -> Vec<String> {
        let label = format!("label=reef.instance={id}");
        let mut traces = self.list("container", &["--all", "--filter", &label]);
        traces.extend(self.list("volume", &["--filter", &label]));
        let dir = self.dir.path().join("instances").join(id.to_string());
        traces.extend(dir.exists().then(|| dir.display().to_string()));
        traces
    }

    async fn clean_up(&self) {
        self.remove_all();
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.remove_all();
    }
}

mod real_docker {
    use super::*;

    reef_runtime::conformance_tests!(Containers::new());
}
