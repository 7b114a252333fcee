//! Reads server-sent events (WHATWG HTML §9.2) as the server writes them: `id`, `event`, one `data` line.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;

/// How long a test waits for the next event; a real model answer takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl SseEvent {
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.name.as_str(), "turn.completed" | "turn.failed" | "turn.cancelled" | "turn.interrupted")
    }
}

/// A response that is being read event by event.
pub(crate) struct SseStream {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl SseStream {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { body, buffer: Vec::new() }
    }

    /// Returns the next event; `None` at the end of the stream or where the connection broke.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).expect("events are UTF-8")) {
                    return Some(event);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event in time");
            match chunk {
                Some(Ok(bytes)) => self.buffer.extend(bytes),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Returns the events up to and with the first that `is_last` likes, or up to the end.
    pub(crate) async fn until(&mut self, is_last: impl Fn(&SseEvent) -> bool) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            let is_end = is_last(&event);
            events.push(event);
            if is_end {
                break;
            }
        }
        events
    }
}

fn parse(block: &str) -> Option<SseEvent> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|v| v.trim_start().to_owned()))
    };
    // A block without an event is a heartbeat comment.
    let name = field("event")?;
    Some(SseEvent {
        id: field("id")?.parse().expect("ids are numbers"),
        name,
        data: serde_json::from_str(&field("data")?).expect("data is JSON"),
    })
}

/// Joins the deltas.
pub(crate) fn text_of(events: &[SseEvent]) -> String {
    events.iter().filter(|e| e.name == "message.delta").filter_map(|e| e.data["text"].as_str()).collect()
}
