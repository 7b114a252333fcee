//! Through the routes, with real processes of a real hands.

mod commands;
mod frames;
mod terminals;

use std::{path::PathBuf, time::Duration};

use axum::{body::Body, http::Request, response::Response};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use reef_door::terminal::TerminalOutput;
use reef_model::SystemClock;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::CloseFrame},
};
use tower::ServiceExt;

use super::*;
use crate::hands::testing::TestHands;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands, and the routes at a socket.
struct Door {
    hands: TestHands,
    terminals: Arc<Terminals>,
    sockets: Sockets,
}

impl Door {
    fn start() -> Self {
        Self::start_with(Duration::from_secs(3600))
    }

    fn start_with(idle_limit: Duration) -> Self {
        let hands = TestHands::start();
        let sockets = Sockets::default();
        let terminals =
            Terminals::new(hands.work.clone(), sockets.clone(), Arc::new(SystemClock), idle_limit);
        let listener = tokio::net::UnixListener::bind(hands.dir.path().join("door.sock")).unwrap();
        let router = terminals.clone().router().merge(sockets.clone().router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { hands, terminals, sockets }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.hands.dir.path().join("workspace").join(name)
    }

    async fn ask(&self, method: &str, path: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        json(self.terminals.clone().router().oneshot(request).await.unwrap()).await
    }

    async fn exec_raw(&self, accept: &str, body: &Value) -> Response {
        let request = Request::post("/terminal/exec").header("accept", accept);
        let request = request.body(Body::from(body.to_string())).unwrap();
        self.terminals.clone().router().oneshot(request).await.unwrap()
    }

    async fn exec(&self, body: Value) -> (StatusCode, Value) {
        json(self.exec_raw("*/*", &body).await).await
    }

    /// Opens a socket, and reads the first frame.
    async fn open(&self, query: &str) -> Client {
        let stream = UnixStream::connect(self.hands.dir.path().join("door.sock")).await.unwrap();
        let url = format!("ws://door/terminal/ws?{query}");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        let mut client = Client { socket, id: String::new(), offset: 0, replay: 0, output: Vec::new() };
        let Seen::Control(TerminalOutput::Session { id, offset, replay, .. }) = client.next().await else {
            panic!("another first frame")
        };
        (client.id, client.offset, client.replay) = (id.to_string(), offset, replay);
        client
    }
}

async fn json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// One socket.
struct Client {
    socket: WebSocketStream<UnixStream>,
    id: String,
    offset: u64,
    replay: u64,
    /// All that came.
    output: Vec<u8>,
}

#[derive(Debug)]
enum Seen {
    Output,
    Control(TerminalOutput),
    Closed(Option<CloseFrame>),
}

impl Client {
    async fn next(&mut self) -> Seen {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    self.output.extend_from_slice(&bytes);
                    return Seen::Output;
                }
                Some(Ok(Message::Text(frame))) => {
                    return Seen::Control(serde_json::from_str(&frame).unwrap());
                }
                Some(Ok(Message::Close(frame))) => return Seen::Closed(frame),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Seen::Closed(None),
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    async fn say(&mut self, frame: &str) {
        self.socket.send(Message::Text(frame.into())).await.unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Reads until the output has `what`.
    async fn see(&mut self, what: &str) {
        let mut looked = 0;
        while !self.output[looked..].windows(what.len()).any(|text| text == what.as_bytes()) {
            looked = self.output.len().saturating_sub(what.len());
            match self.next().await {
                Seen::Closed(frame) => panic!("{frame:?} before {what:?}; {}", self.text()),
                Seen::Output | Seen::Control(_) => {}
            }
        }
    }

    /// Reads to the end; returns the control frames on the way and the close frame.
    async fn rest(&mut self) -> (Vec<TerminalOutput>, Option<CloseFrame>) {
        let mut controls = Vec::new();
        loop {
            match self.next().await {
                Seen::Output => {}
                Seen::Control(control) => controls.push(control),
                Seen::Closed(frame) => return (controls, frame),
            }
        }
    }
}

/// Waits until `is_so`.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a file with a pid in it.
async fn pid_in(path: PathBuf) -> String {
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    until("a pid", || read().ends_with('\n')).await;
    read().trim().to_owned()
}

fn is_alive(pid: &str) -> bool {
    // A zombie is not.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: &str) {
    until(&format!("the end of {pid}"), || !is_alive(pid)).await;
}
