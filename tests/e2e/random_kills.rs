//! kill -9 of the control plane at random moments while instances come and go: afterwards every instance is where its
//! owner wants it, and nothing is left that nobody owns.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::platform::{Client, Platform, deployment_of, docker, doors_below, names_in, remove_from_engine};

const DOOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/instant-door.py");
const PATIENCE: Duration = Duration::from_secs(120);

/// A small generator, so that a failing run can be repeated: the seed is printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Sends one request that may or may not arrive: the server is about to die.
async fn meddle(client: &Client, code: &str, instances: &[String], dice: &mut Dice) {
    let pick = |dice: &mut Dice| instances[dice.roll(instances.len() as u64) as usize].clone();
    let (method, path, body) = match dice.roll(6) {
        _ if instances.is_empty() => {
            ("POST", "/api/instances".to_owned(), Some(json!({"invite_code": code})))
        }
        0 if instances.len() < 8 => ("POST", "/api/instances".to_owned(), Some(json!({"invite_code": code}))),
        1 => ("POST", format!("/api/instances/{}/stop", pick(dice)), None),
        2 => ("POST", format!("/api/instances/{}/start", pick(dice)), None),
        3 => ("POST", format!("/api/instances/{}/restart", pick(dice)), None),
        4 => ("DELETE", format!("/api/instances/{}", pick(dice)), None),
        _ => ("POST", format!("/api/instances/{}/restore", pick(dice)), None),
    };
    let mut request = client
        .http
        .request(method.parse().unwrap(), format!("{}{path}", client.base))
        .bearer_auth(&client.key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let _ = request.timeout(Duration::from_millis(dice.roll(60))).send().await;
}

async fn list(client: &Client) -> Vec<Value> {
    let (status, body) = client.call("GET", "/api/instances?limit=200", None).await;
    assert_eq!(status, 200, "{body}");
    body.as_array().unwrap().clone()
}

fn is_converged(instance: &Value) -> bool {
    match instance["desired"].as_str().unwrap() {
        "running" => instance["status"] == "ready" && instance["power"] == "running",
        _ => instance["status"] == "stopped" && instance["power"] == "stopped",
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    assert!(waited.await.is_ok(), "never so: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_fifty_kills_leave_nothing_behind() {
    kills_leave_nothing_behind(50, &[("REEF_INSTANCE_BIN", DOOR)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_docker_kills_leave_nothing_behind() {
    let image = build_image();
    kills_leave_nothing_behind(15, &[("REEF_RUNTIME", "docker"), ("REEF_INSTANCE_IMAGE", &image)]).await;
}

/// Makes the image of instances with the stand-in in the place of `reef-instance`.
fn build_image() -> String {
    let base = std::env::var("REEF_INSTANCE_IMAGE").unwrap_or_else(|_| "reef-instance:dev".into());
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(DOOR, context.path().join("door.py")).unwrap();
    let file = format!("FROM {base}\nCOPY door.py /usr/local/bin/reef-instance\n");
    std::fs::write(context.path().join("Dockerfile"), file).unwrap();
    let (tag, context) = ("reef-instant-door:test", context.path().to_str().unwrap());
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", tag, context]);
    assert!(build.status().unwrap().success(), "type `infra/images/build.sh dev` where {base} is missing");
    tag.to_owned()
}

async fn kills_leave_nothing_behind(kills: u32, env: &[(&str, &str)]) {
    let mut platform = Platform::start(&[env, &[("REEF_RESTORE_WINDOW_SECONDS", "1")]].concat()).await;
    let client = platform.operator().await;
    let code = client.invite().await;
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);

    let mut engine = Engine::default();
    for _ in 0..kills {
        let instances: Vec<String> =
            list(&client).await.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
        for _ in 0..=dice.roll(4) {
            meddle(&client, &code, &instances, &mut dice).await;
        }
        platform.kill();
        platform.restart().await;
        engine.notice(&platform);
    }

    until("every instance is where its owner wants it", async || {
        list(&client).await.iter().all(is_converged)
    })
    .await;
    // What runs is what is listed, one process each.
    until("one process per instance", async || {
        let wanted: BTreeMap<String, usize> = list(&client)
            .await
            .iter()
            .filter(|instance| instance["desired"] == "running")
            .map(|instance| (instance["id"].as_str().unwrap().to_owned(), 1))
            .collect();
        engine.notice(&platform);
        engine.running(&platform) == wanted
    })
    .await;

    for instance in list(&client).await {
        client.call("DELETE", &format!("/api/instances/{}", instance["id"].as_str().unwrap()), None).await;
    }
    until("nothing runs any more", async || engine.running(&platform).is_empty()).await;
    until("nothing is left", async || {
        let mut left = directories(&platform.data_dir().join("instances"));
        left.extend(engine.left());
        eprintln!("still there: {left:?}");
        left.is_empty()
    })
    .await;
}

fn directories(instances: &Path) -> Vec<String> {
    let mut left = names_in(instances);
    // Where removed directories go to be emptied; itself it stays.
    left.retain(|name| name != ".trash");
    left.extend(names_in(&instances.join(".trash")));
    left
}

/// What the container engine has of a platform; nothing of one whose instances are processes.
#[derive(Default)]
struct Engine {
    /// The platform's name there, once it has anything.
    deployment: Option<String>,
}

impl Engine {
    fn notice(&mut self, platform: &Platform) {
        if platform.is_on_docker() && self.deployment.is_none() {
            self.deployment = deployment_of(&platform.instances());
        }
    }

    fn label(&self) -> Option<String> {
        self.deployment.as_ref().map(|deployment| format!("label=reef.deployment={deployment}"))
    }

    /// Counts what runs of each instance.
    fn running(&self, platform: &Platform) -> BTreeMap<String, usize> {
        let ids: Vec<String> = match self.label() {
            Some(label) => docker(&["ps", "--filter", &label, "--format", "{{.Label \"reef.instance\"}}"])
                .lines()
                .map(str::to_owned)
                .collect(),
            None => doors_below(&platform.data_dir())
                .into_iter()
                .filter_map(|pid| {
                    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    line.split(['/', '\0']).find(|part| part.starts_with("inst_")).map(str::to_owned)
                })
                .collect(),
        };
        let mut running = BTreeMap::new();
        for id in ids {
            *running.entry(id).or_default() += 1;
        }
        running
    }

    /// Names what the engine still has of the platform: of networks, more than the one that its next instances will share.
    fn left(&self) -> Vec<String> {
        let Some(label) = self.label() else { return Vec::new() };
        let list = |args: &[&str]| -> Vec<String> {
            docker(&[args, &["--quiet", "--filter", &label]].concat()).lines().map(str::to_owned).collect()
        };
        let mut left = list(&["container", "ls", "--all"]);
        left.extend(list(&["volume", "ls"]));
        left.extend(list(&["network", "ls"]).into_iter().skip(1));
        left
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.deployment.iter().for_each(|deployment| remove_from_engine(deployment));
    }
}
