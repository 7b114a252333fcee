//! The real OpenClaw gateway, with the stub model behind it.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use reef_door::chat::TurnStatus;
use tokio::net::TcpStream;

use super::*;

const TOKEN: &str = "real-token";

/// A process that dies with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Real {
    dir: tempfile::TempDir,
    port: u16,
    gateway: Running,
    _model: Running,
    ready: watch::Sender<bool>,
}

struct Dialer {
    port: u16,
    ready: watch::Sender<bool>,
}

impl GatewayAccess for Dialer {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn token(&self) -> &str {
        TOKEN
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

impl Real {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port_file = dir.path().join("model-port");
        let stub = root().join("tests/fixtures/stub-model.py");
        let model = Running::start(
            Command::new("python3").arg(stub).args(["--port", "0", "--port-file"]).arg(&port_file),
        );
        let model_port = loop {
            match std::fs::read_to_string(&port_file) {
                Ok(port) if !port.is_empty() => break port,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({
            "gateway": { "mode": "local", "port": port, "bind": "loopback", "auth": { "mode": "token" },
                         "http": { "endpoints": { "chatCompletions": { "enabled": true } } },
                         "controlUi": { "enabled": false } },
            "update": { "checkOnStart": false },
            "agents": { "defaults": { "model": { "primary": "stub/stub-model" }, "heartbeat": { "every": "0m" },
                                      "skipBootstrap": true } },
            "models": { "mode": "merge", "providers": { "stub": {
                "baseUrl": format!("http://127.0.0.1:{model_port}/v1"), "apiKey": "sk-stub", "api": "openai-completions",
                "models": [{ "id": "stub-model", "name": "Stub", "reasoning": false, "input": ["text"],
                             "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
                             "contextWindow": 128_000, "maxTokens": 8192 }] } } },
        });
        let state = dir.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(dir.path().join("door")).unwrap();
        std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
        let gateway = gateway(dir.path());
        Self { dir, port, gateway, _model: model, ready: watch::Sender::new(true) }
    }

    fn dialer(&self) -> Dialer {
        Dialer { port: self.port, ready: self.ready.clone() }
    }

    async fn door(&self) -> Door {
        Door::open(&self.dir.path().join("door"), Arc::new(self.dialer()), LIMITS).await
    }

    /// Waits until nothing runs in a session.
    async fn quiet(&self, session: ChatSessionId) {
        let (client, _events) = link::connect(&self.dialer()).await.unwrap();
        while client.chat_history(&session_key(session)).await.unwrap().in_flight_run.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn kill(&mut self) {
        self.gateway.kill();
    }

    fn start_again(&mut self) {
        self.gateway = gateway(self.dir.path());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn gateway(dir: &Path) -> Running {
    let openclaw = std::env::var_os("REEF_OPENCLAW_DIR")
        .map_or_else(|| root().join(".cache/openclaw/current"), PathBuf::from);
    let node = openclaw.join("node/node");
    assert!(node.exists(), "{} is missing: run infra/setup/openclaw.sh", node.display());
    let state = dir.join("state");
    let mut command = Command::new(&node);
    command
        .arg(openclaw.join("node_modules/openclaw/openclaw.mjs"))
        .args(["gateway", "run"])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", openclaw.join("node").display()))
        .env("HOME", dir)
        .env("OPENCLAW_STATE_DIR", &state)
        .env("OPENCLAW_CONFIG_PATH", state.join("openclaw.json"))
        .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
        .env("OPENCLAW_NO_RESPAWN", "1")
        .env("OPENCLAW_DISABLE_BONJOUR", "1")
        .env("OPENCLAW_NO_AUTO_UPDATE", "1");
    Running::start(&mut command)
}

fn words(count: usize) -> String {
    (1..=count).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn real_turns_stream_call_tools_take_files_and_stop() {
    let real = Real::start().await;
    let door = real.door().await;
    // Accepted before the gateway is up, answered when it is.
    let seen = until(&mut door.stream(say("hello reef")).await, "turn.completed").await;
    assert_eq!(streamed(&seen), "echo: hello reef");
    check_log(&seen);

    let tool = say(r#"TOOL:exec {"command":"echo from-a-tool"}"#);
    let seen = until(&mut door.stream(tool).await, "turn.completed").await;
    let EventBody::MessageCompleted(answer) = &seen[seen.len() - 2].body else { panic!("{seen:?}") };
    assert_eq!(answer.message.content, "tool said: from-a-tool");
    assert_eq!(streamed(&seen), answer.message.content);
    let call = &answer.message.tools[0];
    assert_eq!((call.name.as_str(), call.is_error), ("exec", Some(false)));
    assert_eq!(call.output.as_deref(), Some("from-a-tool"));
    assert!(answer.message.usage.unwrap().output_tokens > 0);
    let tools: Vec<_> = names(&seen).into_iter().filter(|name| name.starts_with("tool.")).collect();
    assert_eq!(tools, ["tool.started", "tool.completed"]);

    let file = json!({ "message": "look", "attachments": [
        { "name": "note.txt", "mime_type": "text/plain", "content": "aGVsbG8gZmlsZQ==" }] });
    let (status, turn) = door.json("POST", "/chat", file).await;
    assert_eq!(status, 200, "{turn}");
    assert!(turn["reply"].as_str().unwrap().contains("hello file"), "{turn}");

    let mut events = door.stream(say("SLOW:200x100")).await;
    let mut waiting = door.stream(say("after it")).await;
    let mut seen = until(&mut events, "message.delta").await;
    let path = format!("/chat/turns/{}/cancel", turn_of(&seen[0]));
    assert_eq!(door.json("POST", &path, Value::Null).await.0, 200);
    seen.extend(until(&mut events, "turn.cancelled").await);
    let turn = door.turn(turn_of(&seen[0])).await;
    assert_eq!((turn.status, turn.reply.as_str()), (TurnStatus::Cancelled, streamed(&seen).as_str()));
    assert_eq!(streamed(&until(&mut waiting, "turn.completed").await), "echo: after it");

    let seen = until(&mut door.stream(say("ERROR:400")).await, "turn.failed").await;
    let EventBody::TurnEnded(end) = &seen.last().unwrap().body else { panic!() };
    assert_eq!(end.error.as_ref().unwrap().code, "model_error");
    check_log(&door.all_events(6).await);
}

#[tokio::test]
async fn real_kill_of_the_gateway_in_mid_stream() {
    let mut real = Real::start().await;
    let door = real.door().await;
    let mut events = door.stream(say("SLOW:40x150")).await;
    let mut waiting = door.stream(say("after it")).await;
    let mut seen = until(&mut events, "message.delta").await;
    seen.extend(until(&mut events, "message.delta").await);
    real.kill();
    real.start_again();
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), words(40), "each word once");
    check_log(&seen);
    assert_eq!(streamed(&until(&mut waiting, "turn.completed").await), "echo: after it");
    check_log(&door.all_events(2).await);
}

#[tokio::test]
async fn real_kill_of_the_door_in_mid_stream() {
    let mut real = Real::start().await;
    let door = real.door().await;
    let mut events = door.stream(say("SLOW:40x150")).await;
    let mut seen = until(&mut events, "message.delta").await;
    let turn = turn_of(&seen[0]);
    door.kill();

    // The gateway streams on, and the next door joins in.
    let door = real.door().await;
    let last = seen.last().unwrap().id.to_string();
    let path = format!("/chat/events?deltas=true&after={last}");
    let mut events = events_of(door.ask("GET", &path, &[], Value::Null).await);
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), words(40), "each word once");
    check_log(&seen);

    // Nobody listens when the answer comes: it is in the transcript.
    let mut events = door.stream(say("SLOW:10x100")).await;
    let seen = until(&mut events, "message.delta").await;
    let second = turn_of(&seen[0]);
    let session = door.turn(second).await.session_id;
    door.kill();
    real.quiet(session).await;
    let door = real.door().await;
    let all = door.all_events(2).await;
    let ours: Vec<_> = all.iter().filter(|event| turn_of(event) == second).cloned().collect();
    assert_eq!((streamed(&ours), ours.last().unwrap().name.as_str()), (words(10), "turn.completed"));

    // Door and gateway die together.
    let mut events = door.stream(say("SLOW:30x150")).await;
    let third = turn_of(&until(&mut events, "message.delta").await[0]);
    door.kill();
    real.kill();
    real.start_again();
    let door = real.door().await;
    let all = door.all_events(3).await;
    check_log(&all);
    let ours: Vec<_> = all.into_iter().filter(|event| turn_of(event) == third).collect();
    assert_eq!((streamed(&ours), ours.last().unwrap().name.as_str()), (words(30), "turn.completed"));
    assert_eq!(door.turn(turn).await.status, TurnStatus::Completed);
}

/// Asks the gateway's OpenAI-compatible route.
async fn completion(port: u16, message: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let body = json!({ "model": "openclaw", "user": "conv:1", "messages": [{ "role": "user", "content": message }] });
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn real_runs_of_others_are_journaled_with_their_origin() {
    let real = Real::start().await;
    let door = real.door().await;
    // The door is connected when it has had an answer of its own.
    until(&mut door.stream(say("hello")).await, "turn.completed").await;
    assert!(completion(real.port, "from outside").await.contains("echo: from outside"));
    assert!(completion(real.port, r#"TOOL:exec {"command":"echo hi"}"#).await.contains("tool said: hi"));
    let (client, _events) = link::connect(&real.dialer()).await.unwrap();
    let job = json!({ "name": "job", "schedule": { "kind": "every", "everyMs": 3_600_000 },
        "sessionTarget": "isolated", "wakeMode": "now",
        "payload": { "kind": "agentTurn", "message": "of a job" }, "delivery": { "mode": "none" } });
    let job: Value = client.call("cron.add", &job).await.unwrap();
    let _: Value = client.call("cron.run", &json!({ "id": job["id"], "mode": "force" })).await.unwrap();

    let sessions = loop {
        let (_, sessions) = door.json("GET", "/chat/sessions", Value::Null).await;
        let is_done = |origin: &str, count| {
            let all = sessions.as_array().unwrap();
            all.iter().any(|it| it["origin"] == origin && it["message_count"].as_u64().unwrap() >= count)
        };
        if is_done("api", 4) && is_done("schedule", 1) {
            break sessions;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let api = sessions.as_array().unwrap().iter().find(|it| it["origin"] == "api").unwrap();
    assert_eq!(api["title"], "API: conv:1");
    let path = format!("/chat/messages?session_id={}", api["id"].as_str().unwrap());
    let (_, messages) = door.json("GET", &path, Value::Null).await;
    let texts: Vec<_> =
        messages.as_array().unwrap().iter().map(|it| it["content"].as_str().unwrap()).collect();
    let call = r#"TOOL:exec {"command":"echo hi"}"#;
    assert_eq!(texts, ["from outside", "echo: from outside", call, "tool said: hi"]);
    assert_eq!(messages[3]["tools"][0]["output"], "hi");
    assert!(messages.as_array().unwrap().iter().all(|message| message["status"] == "completed"));
    // Cancelling reaches a run that HTTP began.
    let port = real.port;
    let slow = tokio::spawn(async move { completion(port, "SLOW:200x100").await });
    let path = format!("/chat/events?deltas=true&session_id={}", api["id"].as_str().unwrap());
    let last = format!("{path}&after={}", messages[3]["event_id"]);
    let mut events = events_of(door.ask("GET", &last, &[], Value::Null).await);
    let seen = until(&mut events, "message.delta").await;
    let path = format!("/chat/turns/{}/cancel", turn_of(seen.last().unwrap()));
    assert_eq!(door.json("POST", &path, Value::Null).await.0, 200);
    until(&mut events, "turn.cancelled").await;
    slow.await.unwrap();
}
