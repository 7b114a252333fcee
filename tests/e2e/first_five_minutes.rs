//! What a newcomer does: start, make an instance, chat, watch it stream and use a tool.

use std::time::Duration;

use serde_json::json;

use crate::{
    platform::Platform,
    sse::{SseEvent, text_of},
};

/// For a line that is printed as the server begins to serve.
const PATIENCE: Duration = Duration::from_secs(10);

async fn answers_streams_and_uses_a_tool(platform: &Platform) {
    let client = platform.operator().await;
    let instance = client.instance().await;

    let (status, turn) = client
        .call("POST", &format!("/api/instances/{instance}/chat"), Some(json!({"message": "good morning"})))
        .await;
    assert_eq!((status, &turn["status"]), (200, &json!("completed")), "{turn}");
    assert!(turn["reply"].as_str().unwrap().contains("good morning"), "{turn}");
    assert_eq!(turn["reply"], turn["message"]["content"]);

    let mut stream = client.stream(&instance, json!({"message": "one two three four five"})).await;
    let events = stream.until(SseEvent::is_terminal).await;
    assert_stream_is_whole(&events);
    assert!(events.iter().filter(|e| e.name == "message.delta").count() > 1, "it streams: {events:?}");
    assert_eq!(stream.next().await, None, "the stream ends with the turn");

    let mut stream = client.stream(&instance, json!({"message": "/run echo from-$((40+2))"})).await;
    let events = stream.until(SseEvent::is_terminal).await;
    assert_stream_is_whole(&events);
    let tool =
        events.iter().find(|e| e.name == "tool.completed").unwrap_or_else(|| panic!("no tool: {events:?}"));
    assert_eq!(tool.data["tool"]["name"], "exec");
    assert!(tool.data["tool"]["output"].as_str().unwrap().contains("from-42"), "{tool:?}");

    let (_, history) = client.call("GET", &format!("/api/instances/{instance}/chat/messages"), None).await;
    let roles: Vec<_> = history.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user", "assistant"]);

    let (_, gone) = client.call("DELETE", &format!("/api/instances/{instance}?wait=60"), None).await;
    assert_eq!(gone["status"], "succeeded", "{gone}");
}

/// Ids strictly increase, there is one terminal event, it is the last, and the deltas are the answer.
pub(crate) fn assert_stream_is_whole(events: &[SseEvent]) {
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id), "{events:?}");
    assert_eq!(events.iter().filter(|e| e.is_terminal()).count(), 1);
    let last = events.last().unwrap();
    assert_eq!(last.name, "turn.completed", "{last:?}");
    let message = events.iter().find(|e| e.name == "message.completed").unwrap();
    assert_eq!(message.data["message"]["content"], text_of(events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_process_from_start_to_a_streamed_answer() {
    answers_streams_and_uses_a_tool(&Platform::start(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_docker_from_start_to_a_streamed_answer() {
    answers_streams_and_uses_a_tool(&Platform::start(&[("REEF_RUNTIME", "docker")]).await).await;
}

/// The lines that the server prints are there to be pasted: paste them, at a later start too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_printed_curl_lines_work_as_printed() {
    let mut platform = Platform::start(&[]).await;
    paste(&platform, 0).await;
    assert!(platform.stop().await.success());
    let before = platform.output().len();
    platform.restart().await;
    paste(&platform, before).await;
}

/// Pastes the lines that were printed after so much output.
async fn paste(platform: &Platform, before: usize) {
    let printed = tokio::time::timeout(PATIENCE, async {
        while !platform.output()[before..].contains("chat/stream") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(printed.await.is_ok(), "nothing to paste:\n{}", platform.output());
    let output = platform.output().split_off(before);
    let lines: Vec<_> = output.lines().map(str::trim).filter(|line| line.contains("curl ")).collect();
    assert_eq!(lines.len(), 3, "three lines to paste:\n{output}");
    let run = tokio::process::Command::new("bash").arg("-euc").arg(lines.join("\n")).output().await.unwrap();
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{printed}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(
        printed.contains("event: message.delta") && printed.contains("event: turn.completed"),
        "{printed}"
    );
}
