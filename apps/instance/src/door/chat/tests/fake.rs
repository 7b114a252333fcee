//! A gateway in memory, with the behaviour that was measured on OpenClaw 2026.9.6.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use reef_openclaw::ByteStream;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::door::chat::GatewayAccess;

pub(super) struct Fake {
    ready: watch::Sender<bool>,
    events: broadcast::Sender<String>,
    sends: tokio::sync::Mutex<mpsc::UnboundedReceiver<Sent>>,
    state: Mutex<State>,
}

/// A `chat.send` that arrived.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) key: String,
    pub(super) run: String,
    pub(super) params: Value,
}

struct State {
    alive: CancellationToken,
    sent: mpsc::UnboundedSender<Sent>,
    sessions: HashMap<String, Session>,
    /// Sends that break the connection before they are noted.
    lost_sends: u32,
    refusal: Option<Value>,
    deleted: Vec<String>,
}

#[derive(Default)]
struct Session {
    rows: Vec<Value>,
    whole: HashMap<String, Value>,
    run: Option<(String, String)>,
    resumes: bool,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        let (sent, sends) = mpsc::unbounded_channel();
        Arc::new(Self {
            ready: watch::Sender::new(true),
            events: broadcast::Sender::new(1024),
            sends: tokio::sync::Mutex::new(sends),
            state: Mutex::new(State {
                alive: CancellationToken::new(),
                sent,
                sessions: HashMap::new(),
                lost_sends: 0,
                refusal: None,
                deleted: Vec::new(),
            }),
        })
    }

    pub(super) async fn next_send(&self) -> Sent {
        self.sends.lock().await.recv().await.unwrap()
    }

    pub(super) async fn no_send_waits(&self) -> bool {
        self.sends.lock().await.try_recv().is_err()
    }

    /// The run says so much, all in all.
    pub(super) fn delta(&self, sent: &Sent, whole: &str) {
        self.state().session(&sent.key).run = Some((sent.run.clone(), whole.into()));
        self.chat(
            sent,
            json!({ "state": "delta", "message": { "content": [{ "type": "text", "text": whole }] } }),
        );
    }

    pub(super) fn finish(&self, sent: &Sent, whole: &str) {
        self.row(
            sent,
            "assistant",
            json!([{ "type": "text", "text": whole }]),
            json!({ "stopReason": "stop",
            "usage": { "input": 10, "output": 2 } }),
        );
        self.state().session(&sent.key).run = None;
        self.chat(
            sent,
            json!({ "state": "final", "message": { "content": [{ "type": "text", "text": whole }] } }),
        );
    }

    /// The run ends in the transcript, and nobody is told.
    pub(super) fn finish_unheard(&self, sent: &Sent, whole: &str) {
        let mut state = self.state();
        let session = state.session(&sent.key);
        session.run = None;
        let row = json!({ "role": "assistant", "content": [{ "type": "text", "text": whole }], "stopReason": "stop",
            "usage": { "input": 10, "output": 2 },
            "__openclaw": { "id": format!("row{}", session.rows.len()), "runId": sent.run } });
        session.rows.push(row);
    }

    /// Like [`Self::finish_unheard`], with a row that history cuts.
    pub(super) fn finish_cut(&self, sent: &Sent, cut: &str, whole: &str) {
        self.finish_unheard(sent, cut);
        let mut state = self.state();
        let session = state.session(&sent.key);
        let row = session.rows.last_mut().unwrap();
        let id = row["__openclaw"]["id"].as_str().unwrap().to_owned();
        let mut full = row.clone();
        row["__openclaw"]["truncated"] = true.into();
        full["content"][0]["text"] = whole.into();
        session.whole.insert(id, full);
    }

    pub(super) fn chat(&self, sent: &Sent, mut payload: Value) {
        payload["runId"] = sent.run.clone().into();
        payload["sessionKey"] = sent.key.clone().into();
        self.event("chat", payload);
    }

    pub(super) fn tool(&self, sent: &Sent, data: Value) {
        let payload = json!({ "runId": sent.run, "sessionKey": sent.key, "stream": "tool", "data": data });
        // The socket that sent the message hears both.
        self.event("agent", payload.clone());
        self.event("session.tool", payload);
    }

    /// A row is written, and followers are told.
    pub(super) fn row(&self, sent: &Sent, role: &str, content: Value, more: Value) {
        let mut state = self.state();
        let session = state.session(&sent.key);
        let mut row = json!({ "role": role, "content": content,
            "__openclaw": { "id": format!("row{}", session.rows.len()) } });
        if role == "user" {
            row["idempotencyKey"] = format!("{}:user", sent.run).into();
        } else {
            row["__openclaw"]["runId"] = sent.run.clone().into();
        }
        for (name, value) in more.as_object().unwrap() {
            row[name] = value.clone();
        }
        session.rows.push(row.clone());
        drop(state);
        self.event("session.message", json!({ "sessionKey": sent.key, "message": row }));
    }

    /// Everybody is disconnected; runs go on.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        std::mem::take(&mut state.alive).cancel();
    }

    /// The process dies: partial answers are lost, and it is not ready until told so.
    pub(super) fn kill(&self) {
        self.ready.send_replace(false);
        let mut state = self.state();
        for session in state.sessions.values_mut() {
            session.resumes = session.run.take().is_some();
        }
        std::mem::take(&mut state.alive).cancel();
    }

    pub(super) fn start(&self) {
        self.ready.send_replace(true);
    }

    pub(super) fn forget_resuming(&self) {
        self.state().sessions.values_mut().for_each(|session| session.resumes = false);
    }

    /// After a restart the gateway goes on with the turn, under a run of its own.
    pub(super) fn resume(&self, sent: &Sent) -> Sent {
        let resumed = Sent { run: "0f-resumed".into(), ..sent.clone() };
        let text =
            "[System] Your previous turn was interrupted by a gateway restart while OpenClaw was waiting.";
        self.state().session(&sent.key).resumes = false;
        self.state().session(&sent.key).run = Some((resumed.run.clone(), String::new()));
        self.row(&resumed, "user", text.into(), json!({}));
        resumed
    }

    pub(super) fn lose_next_send(&self) {
        self.state().lost_sends = 1;
    }

    pub(super) fn refuse_sends(&self, error: Value) {
        self.state().refusal = Some(error);
    }

    pub(super) fn is_running(&self, sent: &Sent) -> bool {
        self.state().session(&sent.key).run.is_some()
    }

    pub(super) fn deleted(&self) -> Vec<String> {
        self.state().deleted.clone()
    }

    fn event(&self, name: &str, payload: Value) {
        let _ = self.events.send(json!({ "type": "event", "event": name, "payload": payload }).to_string());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let mut state = self.state();
        let key = params["sessionKey"].as_str().or(params["key"].as_str()).unwrap_or_default().to_owned();
        match method {
            "sessions.subscribe" => Ok(json!({})),
            "sessions.delete" => {
                state.deleted.push(key);
                Ok(json!({ "deleted": true }))
            }
            "chat.send" => {
                if let Some(refusal) = &state.refusal {
                    return Err(refusal.clone());
                }
                let run = params["idempotencyKey"].as_str().unwrap().to_owned();
                if state.lost_sends > 0 {
                    state.lost_sends -= 1;
                    std::mem::take(&mut state.alive).cancel();
                    return Ok(json!({ "status": "started" }));
                }
                let sent = Sent { key: key.clone(), run: run.clone(), params: params.clone() };
                let session = state.session(&key);
                if session.run.as_ref().is_some_and(|(running, _)| *running == run) {
                    return Ok(json!({ "runId": run, "status": "in_flight" }));
                }
                session.run = Some((run.clone(), String::new()));
                drop(state);
                self.row(&sent, "user", params["message"].clone(), json!({}));
                let _ = self.state().sent.send(sent);
                Ok(json!({ "runId": run, "status": "started" }))
            }
            "chat.abort" => {
                let run = params["runId"].as_str().unwrap().to_owned();
                let session = state.session(&key);
                let Some((_, text)) = session.run.take_if(|(running, _)| *running == run) else {
                    return Ok(json!({ "aborted": false, "runIds": [] }));
                };
                drop(state);
                let sent = Sent { key, run, params: Value::Null };
                let message = json!({ "content": [{ "type": "text", "text": text }] });
                self.chat(&sent, json!({ "state": "aborted", "stopReason": "rpc", "message": message }));
                Ok(json!({ "aborted": true, "runIds": [sent.run] }))
            }
            "sessions.abort" => {
                let Some((run, text)) = state.session(&key).run.take() else {
                    return Ok(json!({ "status": "no-active-run" }));
                };
                drop(state);
                let sent = Sent { key, run, params: Value::Null };
                let message = json!({ "content": [{ "type": "text", "text": text }] });
                self.chat(&sent, json!({ "state": "aborted", "stopReason": "aborted", "message": message }));
                Ok(json!({ "status": "aborted" }))
            }
            "chat.history" => {
                let session = state.session(&key);
                let mut history = json!({ "messages": session.rows, "sessionInfo": {
                    "hasActiveRun": session.run.is_some() || session.resumes } });
                if let Some((run, text)) = &session.run {
                    history["inFlightRun"] = json!({ "runId": run, "text": text });
                }
                Ok(history)
            }
            "chat.message.get" => {
                let id = params["messageId"].as_str().unwrap();
                Ok(json!({ "message": state.session(&key).whole[id] }))
            }
            _ => Err(json!({ "code": "INVALID_REQUEST", "message": format!("unknown method: {method}") })),
        }
    }

    async fn serve(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let alive = self.state().alive.clone();
        let mut events = self.events.subscribe();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let challenge = json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n" } });
        let _ = socket.send(Message::text(challenge.to_string())).await;
        loop {
            let out = tokio::select! {
                biased;
                () = alive.cancelled() => return,
                event = events.recv() => event.unwrap(),
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return };
                    let Ok(text) = message.to_text() else { continue };
                    let Ok(request) = serde_json::from_str::<Value>(text) else { continue };
                    let answer = match request["method"].as_str().unwrap() {
                        "connect" if request["params"]["auth"]["token"] == "token" => {
                            Ok(json!({ "auth": { "scopes": ["operator.admin"] } }))
                        }
                        "connect" => Err(json!({ "code": "INVALID_REQUEST", "message": "wrong token" })),
                        method => self.answer(method, &request["params"]),
                    };
                    if alive.is_cancelled() {
                        return;
                    }
                    match answer {
                        Ok(payload) => json!({ "type": "res", "id": request["id"], "ok": true, "payload": payload }),
                        Err(error) => json!({ "type": "res", "id": request["id"], "ok": false, "error": error }),
                    }
                    .to_string()
                }
            };
            if socket.send(Message::text(out)).await.is_err() {
                return;
            }
        }
    }
}

impl State {
    fn session(&mut self, key: &str) -> &mut Session {
        self.sessions.entry(key.to_owned()).or_default()
    }
}

/// The way to a fake.
pub(super) struct Access(pub(super) Arc<Fake>);

impl GatewayAccess for Access {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async {
            if !*self.0.ready.borrow() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (here, there) = tokio::io::duplex(1 << 20);
            tokio::spawn(Arc::clone(&self.0).serve(there));
            Ok(Box::new(here) as Box<dyn ByteStream>)
        })
    }

    fn token(&self) -> &str {
        "token"
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }
}
