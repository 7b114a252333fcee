//! The way that docs/operations.md gives for a machine of many tenants: Reef itself in a container, by `infra/compose.yaml`.

use std::{path::Path, process::Command, time::Duration};

use serde_json::json;

use crate::platform::{Client, EMAIL, PASSWORD, deployment_of, free_port, names_in, remove_from_engine};

/// A healthy start takes the two images' layers, a migration and a first look at the engine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A project of compose; brought down when it is dropped, with what its instances left in the engine.
struct Composed {
    data: tempfile::TempDir,
    port: u16,
}

impl Composed {
    fn new() -> Self {
        // The engine mounts parts of it by this path.
        Self { data: tempfile::Builder::new().prefix("reef-composed-").tempdir().unwrap(), port: free_port() }
    }

    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs compose as an operator would, by whichever of its two names the machine has.
    fn compose(&self, args: &[&str]) -> String {
        let has_plugin = Command::new("docker").args(["compose", "version"]).output();
        let (program, first) = match has_plugin {
            Ok(output) if output.status.success() => ("docker", &["compose"][..]),
            _ => ("docker-compose", &[][..]),
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/compose.yaml");
        let output = Command::new(program)
            .args(first)
            .args(["--project-name", &format!("reef-composed-{}", self.port), "--file"])
            .arg(file)
            .args(args)
            .env("REEF_VERSION", "dev")
            .env("REEF_INSTANCE_IMAGE", "reef-instance:dev")
            .env("REEF_DATA_DIR", self.data.path())
            .env("REEF_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("REEF_ADMIN_EMAIL", EMAIL)
            .env("REEF_ADMIN_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    async fn wait_ready(&self) {
        let ready = format!("{}/readyz", self.base());
        let client = crate::platform::http_client();
        let is_up = tokio::time::timeout(PATIENCE, async {
            while !client.get(&ready).send().await.is_ok_and(|response| response.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(is_up.await.is_ok(), "not ready:\n{}", self.compose(&["logs", "reef"]));
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs of the container ---\n{}", self.compose(&["logs", "reef"]));
        }
        self.compose(&["down", "--timeout", "60"]);
        let instances = names_in(&self.data.path().join("instances"));
        deployment_of(&instances).iter().for_each(|deployment| remove_from_engine(deployment));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_compose_serves_and_its_instances_outlive_it() {
    let composed = Composed::new();
    composed.compose(&["up", "--detach"]);
    composed.wait_ready().await;
    let client = Client::operator(composed.base()).await;
    let instance = client.instance().await;
    let say = |text: &'static str| {
        let (client, path) = (client.clone(), format!("/api/instances/{instance}/chat"));
        async move {
            let (status, turn) = client.call("POST", &path, Some(json!({"message": text}))).await;
            assert_eq!((status, &turn["status"]), (200, &json!("completed")), "{turn}");
        }
    };
    say("before").await;

    // An upgrade replaces the container; the instance and its conversation stay.
    composed.compose(&["up", "--detach", "--force-recreate"]);
    composed.wait_ready().await;
    let (_, after) = client.call("GET", &format!("/api/instances/{instance}"), None).await;
    assert_eq!(after["status"], "ready", "{after}");
    say("after").await;
    let (_, history) = client.call("GET", &format!("/api/instances/{instance}/chat/messages"), None).await;
    assert_eq!(history.as_array().unwrap().len(), 4, "{history}");
}
