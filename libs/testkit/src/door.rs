//! A door without an instance behind it: a real socket, real HTTP, answers from a script.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        FromRequestParts, Query, Request, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reef_door::{
    CloseReason, DoorStatus, ErrorBody, ErrorCode, RunDir,
    chat::{
        ChatMessage, ChatSession, EventBody, MessageDelta, MessageEvent, Role, Turn, TurnEnded, TurnStarted,
        TurnStatus,
    },
    headers,
    socket::bind_private,
    status::LogLine,
};
use reef_model::{ChatSessionId, Clock, MessageId, SystemClock, TurnId};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_stream::wrappers::ReceiverStream;
use tower::Service;

/// What every chat with the fake is answered with.
pub(crate) const REPLY: &str = "hello from the fake";

/// A request as the door got it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// Path and query on the door; requests to `/status` are recorded where they were scripted.
    pub target: String,
    /// All headers, the door token's too.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// What the door does with the next request to a path.
#[derive(Debug)]
pub enum Script {
    /// Answers at once.
    Answer(Response),
    /// Answers with an event stream that the test writes.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
    /// Never answers.
    Stall,
}

/// The test's end of a [`Script::Stream`]; the stream ends when it is dropped.
#[derive(Debug)]
pub struct DoorStream(mpsc::Sender<io::Result<Bytes>>);

impl Script {
    /// Returns an answer with these headers.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Self {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Self::Answer(response.body(body.into()).unwrap())
    }

    /// Returns an open event stream and the end to write it at.
    pub fn stream() -> (Self, DoorStream) {
        let (sender, receiver) = mpsc::channel(16);
        (Self::Stream(receiver), DoorStream(sender))
    }
}

impl DoorStream {
    /// Writes one event of a turn.
    pub async fn send(&self, id: u64, event: &EventBody) {
        let data = serde_json::to_string(event).unwrap();
        self.write(&format!("id: {id}\nevent: {}\ndata: {data}\n\n", event.name())).await;
    }

    /// Writes bytes.
    pub async fn write(&self, text: &str) {
        self.0.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).await.expect("the reader is there");
    }

    /// Breaks the connection off in the middle of the body.
    pub async fn break_off(self) {
        let _ = self.0.send(Err(io::Error::other("broken off by the test"))).await;
    }

    /// Waits until the reader has gone away.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// What outlives a door's restarts: the script and the record.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    received: Mutex<Vec<Received>>,
    scripts: Mutex<Vec<(String, Script)>>,
    sockets: Mutex<HashMap<String, watch::Sender<Option<CloseReason>>>>,
    is_rude: AtomicBool,
}

impl Memory {
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }

    pub(crate) fn script(&self, path: &str, script: Script) {
        lock(&self.scripts).push((path.to_owned(), script));
    }

    /// Has the door ignore that it is asked to end sockets.
    pub(crate) fn be_rude(&self) {
        self.is_rude.store(true, Ordering::Relaxed);
    }

    fn record(&self, parts: Parts, body: Bytes) {
        let Parts { method, uri, headers, .. } = parts;
        lock(&self.received).push(Received { method, target: uri.to_string(), headers, body });
    }

    fn take_script(&self, path: &str) -> Option<Script> {
        let mut scripts = lock(&self.scripts);
        let position = scripts.iter().position(|(scripted, _)| scripted == path)?;
        Some(scripts.remove(position).1)
    }
}

/// A door that listens; it and its connections end when this is dropped.
pub(crate) struct Door {
    pub(crate) status: watch::Sender<DoorStatus>,
    serving: AbortHandle,
}

impl Door {
    /// Listens in the run directory.
    pub(crate) fn open(
        handle: &Handle,
        run: &RunDir,
        token: String,
        status: DoorStatus,
        memory: Arc<Memory>,
    ) -> Self {
        // A socket belongs to the runtime that drives it: the test's, which outlives the replicas'.
        let _entered = handle.enter();
        let listener = bind_private(&run.door_socket()).unwrap();
        let (status, _) = watch::channel(status);
        let state = Served { token: token.into(), status: status.clone(), memory };
        let router = Router::new()
            .route("/status", get(show_status))
            .route("/logs", get(logs))
            .fallback(scripted)
            .layer(from_fn_with_state(state.clone(), admit))
            .with_state(state);
        let serving = handle.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let router = router.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request: hyper::Request<Incoming>| {
                        let answer = router.clone().call(request.map(Body::new));
                        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
                    });
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { status, serving: serving.abort_handle() }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Served {
    token: Arc<str>,
    status: watch::Sender<DoorStatus>,
    memory: Arc<Memory>,
}

async fn admit(State(state): State<Served>, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {}", state.token);
    if request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == expected.as_str()) {
        return next.run(request).await;
    }
    let body = ErrorBody::new(ErrorCode::Unauthorized, "not the control plane", json!({}), "req_door");
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

#[derive(serde::Deserialize)]
struct StatusQuery {
    after: Option<u64>,
    wait: Option<u64>,
}

async fn show_status(
    State(state): State<Served>,
    Query(query): Query<StatusQuery>,
    request: Request,
) -> Response {
    if let Some(script) = state.memory.take_script("/status") {
        state.memory.record(request.into_parts().0, Bytes::new());
        return play(script).await;
    }
    let mut status = state.status.subscribe();
    if let (Some(after), Some(wait)) = (query.after, query.wait) {
        let grown = status.wait_for(|status| status.revision > after);
        let _ = tokio::time::timeout(Duration::from_secs(wait), grown).await;
    }
    let now = status.borrow().clone();
    Json(now).into_response()
}

async fn logs(State(state): State<Served>) -> Response {
    match state.memory.take_script("/logs") {
        Some(script) => play(script).await,
        None => Json([LogLine { at: SystemClock.now(), line: "the fake is up".to_owned() }]).into_response(),
    }
}

/// Records the request and answers by the script, or as a well-behaved door would.
async fn scripted(State(state): State<Served>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        let name = parts.headers.get(headers::SOCKET).and_then(|name| name.to_str().ok());
        let closed = watch::channel(None);
        lock(&state.memory.sockets).insert(name.unwrap_or_default().to_owned(), closed.0);
        state.memory.record(parts, Bytes::new());
        return upgrade.protocols(["binary"]).on_upgrade(|socket| echo(socket, closed.1));
    }
    let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let method = parts.method.clone();
    if let Some(name) = path.strip_prefix("/sockets/").and_then(|rest| rest.strip_suffix("/close")) {
        if !state.memory.is_rude.load(Ordering::Relaxed)
            && let Some(socket) = lock(&state.memory.sockets).remove(name)
        {
            socket.send_replace(serde_json::from_slice(&body).ok());
        }
        return StatusCode::NO_CONTENT.into_response();
    }
    state.memory.record(parts, body);
    match state.memory.take_script(&path) {
        Some(script) => play(script).await,
        None => behave(&method, &path),
    }
}

/// Sends every frame back until the socket ends or is ended.
async fn echo(mut socket: WebSocket, mut closed: watch::Receiver<Option<CloseReason>>) {
    let mut reason = std::pin::pin!(async {
        closed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone())
    });
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(frame @ (Message::Binary(_) | Message::Text(_)))) => {
                    if socket.send(frame).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            reason = reason.as_mut() => {
                let frame = reason.map(|CloseReason { code, reason }| CloseFrame { code, reason: reason.as_ref().into() });
                let _ = socket.send(Message::Close(frame)).await;
                // Until the client has closed too.
                while socket.recv().await.is_some_and(|frame| frame.is_ok()) {}
                return;
            }
        }
    }
}

async fn play(script: Script) -> Response {
    match script {
        Script::Answer(response) => response,
        Script::Stream(events) => event_stream(Body::from_stream(ReceiverStream::new(events))),
        Script::Stall => std::future::pending().await,
    }
}

fn event_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn behave(method: &Method, path: &str) -> Response {
    let (session_id, turn_id) = (ChatSessionId::generate(), TurnId::generate());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["chat"]) | ("GET", ["chat", "turns", _]) | ("POST", ["chat", "turns", _, "cancel"]) => {
            Json(turn(session_id, turn_id)).into_response()
        }
        ("POST", ["chat", "stream"]) | ("GET", ["chat", "events"]) => {
            let text: String = (1u64..)
                .zip(events_of_a_turn(session_id, turn_id))
                .map(|(id, event)| {
                    let data = serde_json::to_string(&event).unwrap();
                    format!("id: {id}\nevent: {}\ndata: {data}\n\n", event.name())
                })
                .collect();
            event_stream(text.into())
        }
        ("GET", ["chat", "sessions"]) => Json([session(session_id)]).into_response(),
        ("POST", ["chat", "sessions"]) => (StatusCode::CREATED, Json(session(session_id))).into_response(),
        ("PATCH", ["chat", "sessions", _]) => Json(session(session_id)).into_response(),
        ("DELETE", ["chat", "sessions", _]) => StatusCode::NO_CONTENT.into_response(),
        ("GET", ["chat", "messages"]) => Json([
            message(session_id, turn_id, Role::User, 2),
            message(session_id, turn_id, Role::Assistant, 4),
        ])
        .into_response(),
        _ => {
            let body =
                ErrorBody::new(ErrorCode::NotFound, "the fake has no such path", json!({}), "req_door");
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}

fn events_of_a_turn(session_id: ChatSessionId, turn_id: TurnId) -> Vec<EventBody> {
    let delta = |text: &str| EventBody::MessageDelta(MessageDelta { turn_id, text: text.to_owned() });
    vec![
        EventBody::TurnStarted(TurnStarted { turn_id, session_id, origin: None }),
        EventBody::MessageCreated(MessageEvent {
            turn_id,
            message: message(session_id, turn_id, Role::User, 2),
        }),
        delta("hello "),
        delta("from the fake"),
        EventBody::MessageCompleted(MessageEvent {
            turn_id,
            message: message(session_id, turn_id, Role::Assistant, 5),
        }),
        EventBody::TurnEnded(TurnEnded { turn_id, status: TurnStatus::Completed, usage: None, error: None }),
    ]
}

fn turn(session_id: ChatSessionId, turn_id: TurnId) -> Turn {
    Turn {
        turn_id,
        session_id,
        status: TurnStatus::Completed,
        reply: REPLY.to_owned(),
        message: Some(message(session_id, turn_id, Role::Assistant, 5)),
        usage: None,
        error: None,
        event_id: 6,
        origin: None,
    }
}

fn message(session_id: ChatSessionId, turn_id: TurnId, role: Role, event_id: u64) -> ChatMessage {
    ChatMessage {
        id: MessageId::generate(),
        session_id,
        turn_id,
        role,
        content: REPLY.to_owned(),
        status: TurnStatus::Completed,
        event_id,
        created_at: SystemClock.now(),
        usage: None,
        tools: Vec::new(),
        attachments: Vec::new(),
    }
}

fn session(id: ChatSessionId) -> ChatSession {
    let now = SystemClock.now();
    ChatSession {
        id,
        title: "a session".to_owned(),
        created_at: now,
        updated_at: now,
        message_count: 2,
        last_event_id: 6,
        origin: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
