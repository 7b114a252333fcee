//! The whole of chat against a fake gateway, and against the real one.

mod bounds;
mod engine;
mod fake;
mod foreign;
mod real;
mod requests;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use futures_util::{Stream, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use reef_door::chat::{ChatMessage, EventBody, Turn};
use reef_model::{SystemClock, TurnId};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

const QUICK: Limits = Limits {
    reconnect: Duration::from_secs(3),
    resume: Duration::from_millis(300),
    quiet: Duration::from_secs(30),
    poll: Duration::from_millis(20),
    recoveries: 5,
    log_bytes: 1 << 30,
};

/// A door of its own runtime, so that it can be killed.
struct Door {
    runtime: Option<tokio::runtime::Runtime>,
    chat: Option<Arc<Chat>>,
    shutdown: CancellationToken,
}

impl Door {
    async fn open(dir: &Path, gateway: Arc<dyn GatewayAccess>, limits: Limits) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (dir, shutdown) = (dir.to_owned(), CancellationToken::new());
        let token = shutdown.clone();
        let chat = runtime
            .spawn(async move {
                let chat = Chat::open_with(&dir, Arc::new(SystemClock), gateway, limits).await.unwrap();
                tokio::spawn(Arc::clone(&chat).run(token));
                chat
            })
            .await
            .unwrap();
        Self { runtime: Some(runtime), chat: Some(chat), shutdown }
    }

    fn chat(&self) -> &Arc<Chat> {
        self.chat.as_ref().unwrap()
    }

    /// As `kill -9` would: nothing more is written.
    fn kill(mut self) {
        self.chat = None;
        self.runtime.take().unwrap().shutdown_background();
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = Arc::clone(self.chat()).router().oneshot(request.body(body).unwrap());
        self.runtime.as_ref().unwrap().spawn(answer).await.unwrap().unwrap()
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        whole(self.ask(method, path, &[], body).await).await
    }

    /// Starts a turn and returns its stream of events.
    async fn stream(&self, body: Value) -> impl Stream<Item = Seen> + Unpin + use<> {
        let response = self.ask("POST", "/chat/stream", &[], body).await;
        assert_eq!(response.status(), 200);
        events_of(response)
    }

    async fn turn(&self, id: TurnId) -> Turn {
        let (status, turn) = self.json("GET", &format!("/chat/turns/{id}"), Value::Null).await;
        assert_eq!(status, 200, "{turn}");
        serde_json::from_value(turn).unwrap()
    }

    /// All events of the newest session, as a late follower gets them, until `count` turns have ended.
    async fn all_events(&self, ends: usize) -> Vec<Seen> {
        let response = self.ask("GET", "/chat/events?deltas=true", &[], Value::Null).await;
        let mut events = events_of(response);
        let (mut seen, mut ended) = (Vec::new(), 0);
        while ended < ends {
            let event = next(&mut events).await;
            ended += usize::from(event.body.is_terminal());
            seen.push(event);
        }
        seen
    }

    async fn messages(&self) -> Vec<ChatMessage> {
        let (_, messages) = self.json("GET", "/chat/messages", Value::Null).await;
        serde_json::from_value(messages).unwrap()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn whole(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// One event as a client sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    id: u64,
    name: String,
    body: EventBody,
}

fn events_of(response: Response<Body>) -> impl Stream<Item = Seen> + Unpin + use<> {
    let mut frames = response.into_body().into_data_stream();
    Box::pin(async_stream::stream! {
        let mut text = String::new();
        while let Some(frame) = frames.next().await {
            text.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
            while let Some(end) = text.find("\n\n") {
                let block: String = text.drain(..end + 2).collect();
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
                };
                let (Some(id), Some(name), Some(data)) = (field("id:"), field("event:"), field("data:")) else {
                    continue;
                };
                let body = EventBody::parse(&name, &data).unwrap().unwrap();
                yield Seen { id: id.parse().unwrap(), name, body };
            }
        }
    })
}

async fn next(events: &mut (impl Stream<Item = Seen> + Unpin)) -> Seen {
    tokio::time::timeout(Duration::from_secs(170), events.next())
        .await
        .expect("no event in time")
        .expect("ended")
}

/// Waits for an event of this name and returns all up to it.
async fn until(events: &mut (impl Stream<Item = Seen> + Unpin), name: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        seen.push(next(events).await);
        if seen.last().unwrap().name == name {
            return seen;
        }
    }
}

fn names(events: &[Seen]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn streamed(events: &[Seen]) -> String {
    let text = |event: &Seen| match &event.body {
        EventBody::MessageDelta(delta) => Some(delta.text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

fn turn_of(event: &Seen) -> TurnId {
    match &event.body {
        EventBody::TurnStarted(event) => event.turn_id,
        EventBody::MessageDelta(event) => event.turn_id,
        EventBody::ToolStarted(event) | EventBody::ToolCompleted(event) => event.turn_id,
        EventBody::MessageCreated(event) | EventBody::MessageCompleted(event) => event.turn_id,
        EventBody::TurnEnded(event) => event.turn_id,
    }
}

/// What must hold of any complete sequence of events: ids grow, one terminal event per turn and nothing after it.
fn check_log(events: &[Seen]) {
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id), "ids do not grow: {events:?}");
    let mut ended = std::collections::HashSet::new();
    for event in events {
        assert!(!ended.contains(&turn_of(event)), "an event after the end: {event:?}");
        if event.body.is_terminal() {
            ended.insert(turn_of(event));
        }
    }
}

fn say(text: &str) -> Value {
    json!({ "message": text })
}
