//! kill -9 in the middle of a stream: nothing missed, nothing twice, and the turn's status is true.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    platform::{Client, Platform},
    sse::{SseEvent, text_of},
};

const PATIENCE: Duration = Duration::from_secs(180);

/// Twenty words, so that there is a middle.
const MESSAGE: &str = "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20";

/// Begins a turn and returns its session with the events up to the third delta.
async fn begin(client: &Client, instance: &str) -> (String, Vec<SseEvent>) {
    let mut stream = client.stream(instance, json!({"message": MESSAGE})).await;
    let mut events = Vec::new();
    while events.iter().filter(|e: &&SseEvent| e.name == "message.delta").count() < 3 {
        events.push(stream.next().await.expect("the stream goes on"));
    }
    let session = events[0].data["session_id"].as_str().unwrap().to_owned();
    (session, events)
}

/// Follows on from what was seen, over as many connections as it takes, to the end of the turn.
async fn finish(client: &Client, instance: &str, session: &str, events: &mut Vec<SseEvent>) {
    let all = tokio::time::timeout(PATIENCE, async {
        while !events.last().is_some_and(SseEvent::is_terminal) {
            let after = events.last().map_or(0, |e| e.id);
            let Some(mut stream) = client.follow(instance, session, after).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            events.extend(stream.until(SseEvent::is_terminal).await);
        }
    });
    assert!(all.await.is_ok(), "the turn never ended: {events:?}");
}

/// What was seen over several connections is what the log says, once each, and its status is true.
async fn assert_true(client: &Client, instance: &str, session: &str, events: &[SseEvent]) {
    // The session may have had turns before.
    let mut replay = client.follow(instance, session, events[0].id - 1).await.unwrap();
    let logged = replay.until(SseEvent::is_terminal).await;
    assert_eq!(events, logged, "seen over several connections and read at once");
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));

    let turn_id = events[0].data["turn_id"].as_str().unwrap();
    let (_, turn) =
        client.call("GET", &format!("/api/instances/{instance}/chat/turns/{turn_id}"), None).await;
    let last = events.last().unwrap();
    assert_eq!(format!("turn.{}", turn["status"].as_str().unwrap()), last.name);
    let text = text_of(events);
    assert_eq!(turn["reply"].as_str().unwrap(), text);
    if last.name == "turn.completed" {
        assert!(text.contains(MESSAGE), "completed means whole: {text}");
    } else {
        assert_eq!(last.name, "turn.interrupted", "{last:?}");
    }
}

/// Who dies.
#[derive(Debug, Clone, Copy)]
enum Victim {
    ControlPlane,
    Door,
    Gateway,
}

impl Victim {
    async fn kill(self, platform: &mut Platform) {
        match self {
            Self::ControlPlane => {
                platform.kill();
                platform.restart().await;
            }
            // Not the container's first process, which names it too.
            Self::Door => {
                kill_all(&find(platform, |line| line.contains(" door ") && !line.contains("-init ")))
            }
            Self::Gateway => kill_all(&find(platform, |line| {
                line.starts_with("openclaw") || line.contains("openclaw.mjs gateway")
            })),
        }
    }
}

/// One instance, and each victim's death in the middle of a turn of its own.
async fn survives(env: &[(&str, &str)], victims: &[Victim]) {
    let mut platform = Platform::start(env).await;
    let client = platform.operator().await;
    let instance = client.instance().await;
    for victim in victims {
        eprintln!("kill of the {victim:?}");
        let (session, mut events) = begin(&client, &instance).await;
        victim.kill(&mut platform).await;
        finish(&client, &instance, &session, &mut events).await;
        assert_true(&client, &instance, &session, &events).await;

        // And it goes on as if nothing had been.
        let (status, turn) = client
            .call(
                "POST",
                &format!("/api/instances/{instance}/chat"),
                Some(json!({"message": "still there", "session_id": session})),
            )
            .await;
        assert_eq!((status, &turn["status"]), (200, &json!("completed")), "{turn}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_kill_of_the_control_plane_mid_stream() {
    survives(&[], &[Victim::ControlPlane]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_kill_of_the_door_mid_stream() {
    survives(&[], &[Victim::Door]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_kill_of_the_gateway_mid_stream() {
    survives(&[], &[Victim::Gateway]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_docker_kills_mid_stream() {
    survives(&[("REEF_RUNTIME", "docker")], &[Victim::ControlPlane, Victim::Gateway, Victim::Door]).await;
}

fn command_line(pid: i32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// Returns the processes of this platform's instances that `is_it`: the doors and all that they started.
fn find(platform: &Platform, is_it: impl Fn(&str) -> bool) -> Vec<Pid> {
    let mut found: Vec<i32> = platform.roots().into_iter().map(Pid::as_raw).collect();
    let mut next = 0;
    while next < found.len() {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", found[next]));
        found.extend(
            children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()),
        );
        next += 1;
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|pid| command_line(*pid).is_some_and(|line| is_it(&line)));
    found.into_iter().map(Pid::from_raw).collect()
}

fn kill_all(what: &[Pid]) {
    assert!(!what.is_empty(), "nothing to kill");
    for pid in what {
        // One may have gone with the one before it.
        let _ = kill(*pid, Signal::SIGKILL);
    }
}
