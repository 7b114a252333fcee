//! One connection: handshake, requests and answers, events.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ByteStream,
    protocol::{ChatSend, ChatSent, History, Row, Signal},
};

/// The gateway's own limit of a frame (`policy.maxPayload`); a cumulative event of a long reply comes near it.
const MAX_FRAME_BYTES: usize = 26_214_400;
/// Challenge, hello and all.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// An answer to a request; sending 20 MiB of attachments takes the gateway some seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The gateway ticks every 30 s: three missed ones mean that nobody is there.
const SILENCE_LIMIT: Duration = Duration::from_secs(95);
/// Bytes of events that were read and not taken yet: one of the largest frames, and more.
const UNREAD_BYTES: u32 = 32 << 20;
/// Values of one frame; a frame of the largest size could hold ten million, which take ten times its memory.
const FRAME_VALUES: usize = 1_000_000;
/// Rows of one history page; the gateway's maximum.
const HISTORY_ROWS: u32 = 1000;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The WebSocket failed or was closed.
    #[error("the gateway closed the connection during the handshake")]
    Socket(#[source] Box<tungstenite::Error>),
    /// The gateway refused; while it starts, `retryable` is true.
    #[error("the gateway refused the connection: {message}")]
    Refused {
        /// The gateway's code.
        code: String,
        /// The gateway's words.
        message: String,
        /// Whether trying again is said to help.
        retryable: bool,
    },
    /// Connected with fewer rights than asked for: the peer was not seen as loopback.
    #[error("the gateway granted no operator scopes")]
    NoScopes,
    /// Nothing came in time, or what came was no OpenClaw handshake.
    #[error("the gateway did not complete the handshake")]
    Handshake,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection is gone; whether the request took effect is not known.
    #[error("the connection to the gateway is gone")]
    Closed,
    /// No answer in a minute; whether the request took effect is not known.
    #[error("the gateway did not answer in time")]
    Timeout,
    /// The gateway refused.
    #[error("the gateway refused: {message}")]
    Refused {
        /// The gateway's code, `INVALID_REQUEST` for instance.
        code: String,
        /// The gateway's words.
        message: String,
        /// Whether trying again is said to help.
        retryable: bool,
    },
    /// The answer has another shape than this version of OpenClaw gives.
    #[error("the gateway's answer is not understood")]
    Shape(#[source] serde_json::Error),
}

/// The events of a connection, in the order of the socket; ends when the connection does.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<(Signal, OwnedSemaphorePermit)>);

impl Events {
    /// Waits for the next event; `None` when the connection has ended.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await.map(|(signal, _)| signal)
    }
}

/// The other end of [`Events`], bounded in number and in bytes.
struct Signals {
    queue: mpsc::Sender<(Signal, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Signals {
    /// Waits for room; `false` when nobody listens any more.
    async fn send(&self, signal: Signal) -> bool {
        let bytes = u32::try_from(signal.bytes()).unwrap_or(u32::MAX).min(UNREAD_BYTES);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room,
            () = self.queue.closed() => return false,
        };
        match room {
            Ok(room) => self.queue.send((signal, room)).await.is_ok(),
            Err(_) => false,
        }
    }
}

type Answer = oneshot::Sender<Result<Box<RawValue>, CallError>>;

struct Request {
    id: u64,
    frame: String,
    answer: Answer,
}

/// The requesting half of a connection; clones share it, and it closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    ids: Arc<AtomicU64>,
    closed: CancellationToken,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ok: bool,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
    #[serde(default)]
    event: Option<&'a str>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    auth: HelloAuth,
}

#[derive(Default, Deserialize)]
struct HelloAuth {
    #[serde(default)]
    scopes: Vec<String>,
}

type Socket = WebSocketStream<Box<dyn ByteStream>>;

impl Client {
    /// Shakes hands over `stream` with the gateway's token, subscribes to all sessions, and spawns the connection's task.
    ///
    /// # Errors
    /// [`ConnectError`]; a gateway that is still starting refuses with `retryable`.
    ///
    /// # Cancel safety
    /// Safe: a dropped handshake closes the stream.
    pub async fn connect(stream: Box<dyn ByteStream>, token: &str) -> Result<(Self, Events), ConnectError> {
        let socket = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake_hands(stream, token))
            .await
            .map_err(|_| ConnectError::Handshake)??;
        let (requests, outgoing) = mpsc::channel(64);
        let (signals, events) = mpsc::channel(256);
        let closed = CancellationToken::new();
        let client = Self { requests, ids: Arc::new(AtomicU64::new(1)), closed: closed.clone() };
        tokio::spawn(async move {
            let _ends = closed.drop_guard();
            drive(
                socket,
                outgoing,
                Signals { queue: signals, room: Arc::new(Semaphore::new(UNREAD_BYTES as usize)) },
            )
            .await;
        });
        client.call::<_, serde::de::IgnoredAny>("sessions.subscribe", &serde_json::json!({})).await.map_err(
            |error| match error {
                CallError::Refused { code, message, retryable } => {
                    ConnectError::Refused { code, message, retryable }
                }
                CallError::Closed | CallError::Timeout | CallError::Shape(_) => ConnectError::Handshake,
            },
        )?;
        Ok((client, Events(events)))
    }

    /// Waits until the connection has ended.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Tells whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Calls a method and waits for its answer, at most a minute.
    ///
    /// # Errors
    /// [`CallError`]; after `Closed` and `Timeout` the request may still have taken effect.
    ///
    /// # Cancel safety
    /// Not safe for methods that change something: a dropped call may take effect.
    pub async fn call<P: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
    ) -> Result<R, CallError> {
        #[derive(Serialize)]
        struct Req<'a, P: ?Sized> {
            r#type: &'static str,
            id: String,
            method: &'a str,
            params: &'a P,
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let frame = serde_json::to_string(&Req { r#type: "req", id: id.to_string(), method, params })
            .map_err(CallError::Shape)?;
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { id, frame, answer }).await.map_err(|_| CallError::Closed)?;
        let payload = tokio::time::timeout(CALL_TIMEOUT, answered)
            .await
            .map_err(|_| CallError::Timeout)?
            .map_err(|_| CallError::Closed)??;
        serde_json::from_str(payload.get()).map_err(CallError::Shape)
    }

    /// Sends a user message. The run has the idempotency key as its id; the same key again starts no second run.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// A dropped call may take effect; send again with the same key.
    pub async fn chat_send(&self, message: &ChatSend<'_>) -> Result<ChatSent, CallError> {
        self.call("chat.send", message).await
    }

    /// Stops a run; `false` when it does not run. Its partial answer comes as an `aborted` event.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// A dropped call may take effect, which does no harm.
    pub async fn chat_abort(&self, session_key: &str, run_id: &str) -> Result<bool, CallError> {
        #[derive(Deserialize)]
        struct Aborted {
            #[serde(default)]
            aborted: bool,
        }
        let params = serde_json::json!({ "sessionKey": session_key, "runId": run_id });
        Ok(self.call::<_, Aborted>("chat.abort", &params).await?.aborted)
    }

    /// Stops whatever runs in a session, HTTP-started runs too; `false` when nothing did.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// A dropped call may take effect, which does no harm.
    pub async fn session_abort(&self, session_key: &str) -> Result<bool, CallError> {
        #[derive(Deserialize)]
        struct Aborted {
            #[serde(default)]
            status: String,
        }
        let params = serde_json::json!({ "key": session_key });
        Ok(self.call::<_, Aborted>("sessions.abort", &params).await?.status == "aborted")
    }

    /// Reads the newest rows of a session, oldest first, and what runs in it; empty for an unknown one.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn chat_history(&self, session_key: &str) -> Result<History, CallError> {
        let params = serde_json::json!({ "sessionKey": session_key, "limit": HISTORY_ROWS });
        self.call("chat.history", &params).await
    }

    /// Reads one row whole; history cuts texts at about 8 000 characters.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn message_get(&self, session_key: &str, message_id: &str) -> Result<Row, CallError> {
        #[derive(Deserialize)]
        struct Got {
            message: Row,
        }
        let params = serde_json::json!({ "sessionKey": session_key, "messageId": message_id });
        Ok(self.call::<_, Got>("chat.message.get", &params).await?.message)
    }

    /// Deletes a session with its transcript; deleting what is not there is fine.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// A dropped call may take effect.
    pub async fn session_delete(&self, session_key: &str) -> Result<(), CallError> {
        let params = serde_json::json!({ "key": session_key });
        self.call::<_, serde::de::IgnoredAny>("sessions.delete", &params).await.map(|_| ())
    }
}

async fn shake_hands(stream: Box<dyn ByteStream>, token: &str) -> Result<Socket, ConnectError> {
    let socket_error = |error| ConnectError::Socket(Box::new(error));
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let (mut socket, _) =
        client_async_with_config("ws://127.0.0.1/", stream, Some(config)).await.map_err(socket_error)?;
    loop {
        let text = next_text(&mut socket).await?;
        let frame: Frame<'_> = serde_json::from_str(&text).map_err(|_| ConnectError::Handshake)?;
        match (frame.kind, frame.event) {
            ("event", Some("connect.challenge")) => {
                let hello = serde_json::json!({
                    "type": "req", "id": "connect", "method": "connect",
                    "params": {
                        "minProtocol": 4, "maxProtocol": 4,
                        "client": {
                            "id": "gateway-client", "version": env!("CARGO_PKG_VERSION"),
                            "platform": "linux", "mode": "backend",
                        },
                        "role": "operator",
                        "scopes": ["operator.admin", "operator.read", "operator.write"],
                        "caps": ["tool-events"],
                        "auth": { "token": token },
                    },
                });
                socket.send(Message::text(hello.to_string())).await.map_err(socket_error)?;
            }
            ("res", _) if frame.id.as_deref() == Some("connect") => {
                if let Some(refusal) = frame.error {
                    let Refusal { code, message, retryable } = refusal;
                    return Err(ConnectError::Refused { code, message, retryable });
                }
                let payload = frame.payload.ok_or(ConnectError::Handshake)?;
                let hello: Hello =
                    serde_json::from_str(payload.get()).map_err(|_| ConnectError::Handshake)?;
                if !hello.auth.scopes.iter().any(|scope| scope == "operator.admin") {
                    return Err(ConnectError::NoScopes);
                }
                return Ok(socket);
            }
            _ => {}
        }
    }
}

async fn next_text(socket: &mut Socket) -> Result<String, ConnectError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(_))) | None => {
                return Err(ConnectError::Socket(Box::new(tungstenite::Error::ConnectionClosed)));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(ConnectError::Socket(Box::new(error))),
        }
    }
}

/// Moves frames until either side goes away. Whoever waits for an answer then hears `Closed`, because its sender
/// is dropped with `waiting`.
async fn drive(mut socket: Socket, mut outgoing: mpsc::Receiver<Request>, signals: Signals) {
    let mut waiting: HashMap<u64, Answer> = HashMap::new();
    loop {
        tokio::select! {
            request = outgoing.recv() => {
                let Some(Request { id, frame, answer }) = request else {
                    let _ = socket.close(None).await;
                    return;
                };
                waiting.retain(|_, answer| !answer.is_closed());
                waiting.insert(id, answer);
                if let Err(error) = socket.send(Message::text(frame)).await {
                    tracing::debug!(%error, "gateway socket failed while sending");
                    return;
                }
            }
            message = tokio::time::timeout(SILENCE_LIMIT, socket.next()) => {
                let text = match message {
                    Ok(Some(Ok(Message::Text(text)))) => text,
                    Ok(Some(Ok(Message::Close(frame)))) => {
                        tracing::debug!(?frame, "the gateway closed the connection");
                        return;
                    }
                    Ok(Some(Ok(_))) => continue,
                    Ok(Some(Err(error))) => {
                        tracing::debug!(%error, "gateway socket failed");
                        return;
                    }
                    Ok(None) => return,
                    Err(_) => {
                        tracing::warn!("the gateway has been silent for too long");
                        return;
                    }
                };
                if !dispatch(&text, &mut waiting, &signals).await {
                    return;
                }
            }
        }
    }
}

/// Handles one frame; `false` when nobody listens to events any more.
async fn dispatch(text: &str, waiting: &mut HashMap<u64, Answer>, signals: &Signals) -> bool {
    let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else {
        tracing::warn!("the gateway sent a frame that is not understood");
        return true;
    };
    match (frame.kind, frame.event, frame.payload) {
        ("res", _, payload) => {
            let id = frame.id.as_deref().and_then(|id| id.parse().ok());
            if let Some(answer) = id.and_then(|id: u64| waiting.remove(&id)) {
                let refusal = frame.error;
                let _ = answer.send(match (frame.ok, payload, refusal) {
                    (true, Some(payload), _) if !is_bounded(payload.get()) => {
                        Err(CallError::Shape(serde::de::Error::custom("the answer has too many values")))
                    }
                    (true, Some(payload), _) => Ok(payload.to_owned()),
                    (true, None, _) => Ok(RawValue::NULL.to_owned()),
                    (false, _, refusal) => {
                        let Refusal { code, message, retryable } = refusal.unwrap_or(Refusal {
                            code: String::new(),
                            message: "no reason given".into(),
                            retryable: false,
                        });
                        Err(CallError::Refused { code, message, retryable })
                    }
                });
            }
            true
        }
        ("event", Some(name), Some(payload)) if !is_bounded(payload.get()) => {
            tracing::warn!(event = name, "a gateway event has too many values");
            true
        }
        ("event", Some(name), Some(payload)) => match Signal::parse(name, payload) {
            Ok(Some(signal)) => signals.send(signal).await,
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(event = name, %error, "a gateway event is not understood");
                true
            }
        },
        _ => true,
    }
}

/// Tells whether valid JSON has few enough values to be taken apart.
fn is_bounded(json: &str) -> bool {
    let (mut values, mut in_text, mut is_escaped) = (0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_text = !in_text,
            // Every value but the first of its list or object follows one of these.
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values <= FRAME_VALUES
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::DuplexStream;

    use super::*;

    use crate::protocol::SignalKind;

    type Server = WebSocketStream<DuplexStream>;

    async fn send(socket: &mut Server, frame: Value) {
        socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn receive(socket: &mut Server) -> Value {
        serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
    }

    /// Plays the gateway up to the answer of `connect`.
    async fn serve(stream: DuplexStream, answer: Value) -> Server {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        send(
            &mut socket,
            json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n" } }),
        )
        .await;
        let hello = receive(&mut socket).await;
        assert_eq!((&hello["method"], &hello["params"]["auth"]["token"]), (&"connect".into(), &"t".into()));
        let mut answer = answer;
        answer["type"] = "res".into();
        answer["id"] = hello["id"].clone();
        send(&mut socket, answer).await;
        socket
    }

    async fn connect(answer: Value) -> (Result<(Client, Events), ConnectError>, Server) {
        let (here, there) = tokio::io::duplex(1 << 16);
        let serving = async {
            let accepted = answer["payload"]["auth"]["scopes"][0] == "operator.admin";
            let mut socket = serve(there, answer).await;
            if accepted {
                let subscribe = receive(&mut socket).await;
                assert_eq!(subscribe["method"], "sessions.subscribe");
                send(&mut socket, json!({ "type": "res", "id": subscribe["id"], "ok": true, "payload": {} }))
                    .await;
            }
            socket
        };
        tokio::join!(Client::connect(Box::new(here), "t"), serving)
    }

    fn accepted() -> Value {
        json!({ "ok": true, "payload": { "auth": { "scopes": ["operator.admin"] } } })
    }

    #[tokio::test]
    async fn a_gateway_that_starts_or_gives_no_rights_is_no_connection() {
        let starting = json!({ "ok": false, "error": { "code": "UNAVAILABLE", "message": "starting", "retryable": true } });
        let (refused, _socket) = connect(starting).await;
        assert!(matches!(refused, Err(ConnectError::Refused { retryable: true, .. })));
        let (refused, _socket) =
            connect(json!({ "ok": true, "payload": { "auth": { "scopes": [] } } })).await;
        assert!(matches!(refused, Err(ConnectError::NoScopes)));
    }

    #[tokio::test]
    async fn answers_find_their_questions_in_any_order() {
        let (connected, mut socket) = connect(accepted()).await;
        let (client, mut events) = connected.unwrap();
        let answering = async {
            let (first, second) = (receive(&mut socket).await, receive(&mut socket).await);
            let event = json!({ "runId": "r", "sessionKey": "k", "state": "final" });
            send(&mut socket, json!({ "type": "event", "event": "tick", "payload": {} })).await;
            send(&mut socket, json!({ "type": "event", "event": "chat", "payload": event })).await;
            for request in [second, first] {
                let payload = json!({ "echo": request["params"] });
                send(
                    &mut socket,
                    json!({ "type": "res", "id": request["id"], "ok": true, "payload": payload }),
                )
                .await;
            }
        };
        let (one, two) = (json!(1), json!(2));
        let (one, two, ()) =
            tokio::join!(client.call::<_, Value>("a", &one), client.call::<_, Value>("b", &two), answering);
        assert_eq!((&one.unwrap()["echo"], &two.unwrap()["echo"]), (&json!(1), &json!(2)));
        assert_eq!(events.next().await.unwrap().run_id, "r");
    }

    #[tokio::test]
    async fn a_lost_connection_answers_every_question() {
        let (connected, mut socket) = connect(accepted()).await;
        let (client, mut events) = connected.unwrap();
        let nothing = json!({});
        let losing = async {
            receive(&mut socket).await;
            drop(socket);
        };
        let (answer, ()) = tokio::join!(client.call::<_, Value>("a", &nothing), losing);
        assert!(matches!(answer, Err(CallError::Closed)));
        client.closed().await;
        assert!(events.next().await.is_none());
        assert!(matches!(client.call::<_, Value>("a", &nothing).await, Err(CallError::Closed)));
    }

    #[test]
    fn values_are_counted_and_texts_are_not() {
        assert!(is_bounded(&json!({ "text": "a,[{\"\\,".repeat(FRAME_VALUES) }).to_string()));
        assert!(is_bounded(&json!(vec![0; FRAME_VALUES]).to_string()));
        assert!(!is_bounded(&json!(vec![0; FRAME_VALUES + 1]).to_string()));
        assert!(!is_bounded(&"[".repeat(FRAME_VALUES + 1)));
    }

    #[tokio::test]
    async fn events_that_nobody_takes_hold_the_socket_back() {
        let (connected, mut socket) = connect(accepted()).await;
        let (client, mut events) = connected.unwrap();
        let text = "x".repeat(9 << 20);
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let sending = tokio::spawn(async move {
            for _ in 0..8 {
                let message = json!({ "content": text });
                let payload =
                    json!({ "runId": "r", "sessionKey": "k", "state": "delta", "message": message });
                send(&mut socket, json!({ "type": "event", "event": "chat", "payload": payload })).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            socket
        });
        for taken in 0..8 {
            // Three fit into what may be unread; one more is being read, and one may have been taken.
            assert!(sent.load(Ordering::Relaxed) <= taken + 5);
            let kind = events.next().await.unwrap().kind;
            assert!(matches!(kind, SignalKind::Delta(text) if text.len() == 9 << 20));
        }
        drop((sending.await.unwrap(), client));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_gateway_is_given_up() {
        let (connected, _socket) = connect(accepted()).await;
        let (client, _events) = connected.unwrap();
        client.closed().await;
    }
}
