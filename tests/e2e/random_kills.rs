//! kill -9 of the control plane at random moments while instances come and go: afterwards every instance is where its
//! owner wants it, and nothing is left that nobody owns.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::platform::{Client, Platform, doors_below};

const KILLS: u32 = 50;
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
    let door = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/instant-door.py");
    let mut platform =
        Platform::start(&[("REEF_INSTANCE_BIN", door), ("REEF_RESTORE_WINDOW_SECONDS", "1")]).await;
    let client = platform.operator().await;
    let code = client.invite().await;
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);

    for _ in 0..KILLS {
        let instances: Vec<String> =
            list(&client).await.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
        for _ in 0..=dice.roll(4) {
            meddle(&client, &code, &instances, &mut dice).await;
        }
        platform.kill();
        platform.restart().await;
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
        running_doors(&platform) == wanted
    })
    .await;

    for instance in list(&client).await {
        client.call("DELETE", &format!("/api/instances/{}", instance["id"].as_str().unwrap()), None).await;
    }
    until("no process is left", async || running_doors(&platform).is_empty()).await;
    until("no directory is left", async || {
        let dir = platform.data_dir().join("instances");
        let mut left = names_in(&dir);
        // Where removed directories go to be emptied; itself it stays.
        left.retain(|name| name != ".trash");
        left.extend(names_in(&dir.join(".trash")));
        eprintln!("still there: {left:?}");
        left.is_empty()
    })
    .await;
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn running_doors(platform: &Platform) -> BTreeMap<String, usize> {
    let mut doors = BTreeMap::new();
    for pid in doors_below(&platform.data_dir()) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(id) = line.split(['/', '\0']).find(|part| part.starts_with("inst_")) {
            *doors.entry(id.to_owned()).or_default() += 1;
        }
    }
    doors
}
