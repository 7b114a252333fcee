//! One instance in a temporary directory: the door's process, its model, and what a control plane would ask it.

use std::{
    io::{Read, Write},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};

pub(crate) const DOOR_TOKEN: &str = "door-token-7c1f";
pub(crate) const GATEWAY_TOKEN: &str = "gateway-token-93ab";
/// User of hands where the door is root, and of a door that is not.
pub(crate) const TENANT_UID: u32 = 54_321;
pub(crate) const SERVICE_UID: u32 = 54_322;

/// Processes and threads that a tenant may have.
pub(crate) const PIDS: usize = 400;

/// Generous: the machine may be busy with other tests.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Who the door runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Root,
    Service,
}

/// A running instance; dropped, its door is killed.
pub(crate) struct Instance {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) door: Child,
    model: tokio::runtime::Runtime,
}

impl Instance {
    /// Starts a door; its directories are closed to everybody else, as a `mktemp -d` is.
    pub(crate) fn start(isolation: &str, who: As) -> Self {
        let dir = tempfile::Builder::new().prefix("reef-it-").tempdir_in("/tmp").expect("a directory");
        for name in ["run", "run/in", "run/out"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let boot = json!({
            "instance_id": reef_model::InstanceId::generate(),
            "generation": 3,
            "door_token": DOOR_TOKEN,
            "gateway_token": GATEWAY_TOKEN,
            "pids": PIDS,
            "env": { "TENANT_VARIABLE": "its value", "HOME": "/not/this" },
        });
        std::fs::write(dir.path().join("run/in/boot.json"), boot.to_string()).expect("the boot file");
        let model = serve_model(&dir.path().join("run/in/model.sock"));
        if who == As::Service {
            give(dir.path(), SERVICE_UID);
        }
        let door = spawn_door(dir.path(), isolation, who);
        Self { dir, door, model }
    }

    /// Starts the door again in the same directories.
    pub(crate) fn restart(&mut self, isolation: &str, who: As) {
        self.door = spawn_door(self.dir.path(), isolation, who);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.door.id()
    }

    /// Waits for a status that satisfies `is_wanted`.
    pub(crate) fn wait_status(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < BOOT_LIMIT {
            if let Some(status) = self.door.try_wait().expect("the door is our child") {
                panic!("the door ended ({status}) while waiting for {what}: {}", self.door_log());
            }
            let after = last["revision"].as_u64().unwrap_or(0);
            match self.get(&format!("/status?after={after}&wait=5")) {
                Ok((200, status)) => {
                    if is_wanted(&status) {
                        return status;
                    }
                    last = status;
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        panic!("no {what}; last status {last}; logs {:#}", self.logs());
    }

    pub(crate) fn wait_ready(&mut self) -> Value {
        self.wait_status("ready", |status| status["phase"] == "ready")
    }

    pub(crate) fn logs(&self) -> Value {
        self.get("/logs?lines=10").map(|(_, lines)| lines).unwrap_or_default()
    }

    pub(crate) fn door_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("door.log")).unwrap_or_default()
    }

    /// `GET path` on the door.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<(u16, Value)> {
        http(&self.dir.path().join("run/out/door.sock"), "GET", path, DOOR_TOKEN, None)
    }

    /// Lets the agent run `script` by a tool call of the model, straight through the gateway; returns its output.
    pub(crate) fn run_in_hands(&self, script: &str) -> String {
        let body = json!({
            "model": "openclaw",
            "user": format!("it-{}", reef_model::RequestId::generate()),
            "messages": [{ "role": "user", "content": format!("RUN<<<{script}>>>") }],
        });
        let socket = self.dir.path().join("state/gateway.sock");
        let (status, answer) =
            http(&socket, "POST", "/v1/chat/completions", GATEWAY_TOKEN, Some(&body)).expect("the gateway");
        assert_eq!(status, 200, "{answer}; {:#}; {}", self.logs(), self.door_log());
        answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs `script` as the owner's shell does, with these variables; returns its output.
    pub(crate) fn exec(&self, script: &str, env: &[(&str, &str)]) -> String {
        let env: std::collections::BTreeMap<_, _> = env.iter().copied().collect();
        let body = json!({ "argv": ["bash", "-c", script], "env": env, "timeout_ms": 110_000 });
        let socket = self.dir.path().join("run/out/door.sock");
        let (status, answer) =
            http(&socket, "POST", "/terminal/exec", DOOR_TOKEN, Some(&body)).expect("the door");
        assert_eq!(status, 200, "{answer}; {}", self.door_log());
        answer["stdout"].as_str().unwrap_or_default().to_owned()
    }

    /// The same without waiting for an answer: for a script after which there may be none.
    pub(crate) fn run_detached(&self, script: &str) {
        let body = json!({
            "model": "openclaw",
            "messages": [{ "role": "user", "content": format!("RUN<<<{script}>>>") }],
        });
        let socket = self.dir.path().join("state/gateway.sock");
        std::thread::spawn(move || http(&socket, "POST", "/v1/chat/completions", GATEWAY_TOKEN, Some(&body)));
    }

    /// Every process below the door, as (pid, start time).
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        descendants(self.pid())
    }

    /// The gateway's process, as the machine numbers it.
    pub(crate) fn gateway_pid(&self) -> u32 {
        let all = self.processes();
        let named = |pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line).into_owned();
            text.contains("openclaw") && !text.contains("bwrap") && !text.contains("reef-instance")
        };
        all.iter().map(|(pid, _)| *pid).find(|pid| named(*pid)).expect("a gateway")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.door.kill();
        let _ = self.door.wait();
        let _ = &self.model;
    }
}

/// The installed OpenClaw.
pub(crate) fn openclaw_dir() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/openclaw/current");
    let dir = std::env::var_os("REEF_OPENCLAW_DIR").map_or_else(default, PathBuf::from);
    assert!(dir.exists(), "{} is missing: install OpenClaw first (infra/setup)", dir.display());
    dir
}

pub(crate) fn door_command(dir: &Path, isolation: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reef-instance"));
    command.arg("door").args(["--isolation", isolation, "--drain-seconds", "5"]);
    command.arg("--openclaw").arg(openclaw_dir());
    for (flag, name) in
        [("--run-dir", "run"), ("--state-dir", "state"), ("--home", "home"), ("--workspace", "workspace")]
    {
        command.arg(flag).arg(dir.join(name));
    }
    command
}

fn spawn_door(dir: &Path, isolation: &str, who: As) -> Child {
    let mut command = door_command(dir, isolation);
    match who {
        As::Root => {
            let tenant = TENANT_UID.to_string();
            command.args(["--hands-uid", &tenant, "--hands-gid", &tenant]);
        }
        As::Service => {
            command.uid(SERVICE_UID).gid(SERVICE_UID);
        }
    }
    let log = std::fs::File::create(dir.join("door.log")).expect("a log");
    command.stdin(Stdio::null()).stderr(log).spawn().expect("the door starts")
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("root may");
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory").flatten() {
            give(&entry.path(), uid);
        }
    }
}

/// A model that says "ok", or calls `exec` with what stands between `RUN<<<` and `>>>` and then says what came of it.
fn serve_model(socket: &Path) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = {
        let _guard = runtime.enter();
        tokio::net::UnixListener::bind(socket).expect("the model's socket")
    };
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).expect("ours");
    let app =
        Router::new().route("/v1/chat/completions", post(async |Json(body): Json<Value>| complete(&body)));
    runtime.spawn(async move { axum::serve(listener, app).await });
    runtime
}

fn complete(body: &Value) -> ([(&'static str, &'static str); 1], String) {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let text = |message: &Value| match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let results: Vec<String> =
        messages.iter().filter(|message| message["role"] == "tool").map(text).collect();
    let script = messages.iter().find_map(|message| {
        let text = text(message);
        Some(text.split_once("RUN<<<")?.1.rsplit_once(">>>")?.0.to_owned())
    });
    let delta = match (results.last(), script) {
        (Some(result), _) => json!({ "role": "assistant", "content": result }),
        (None, Some(script)) => json!({ "role": "assistant", "tool_calls": [{
            "index": 0, "id": "call_1", "type": "function",
            "function": { "name": "exec", "arguments": json!({ "command": script }).to_string() }
        }] }),
        (None, None) => json!({ "role": "assistant", "content": "ok" }),
    };
    let finish = if delta["tool_calls"].is_null() { "stop" } else { "tool_calls" };
    let chunk = |choices: Value| {
        let chunk = json!({
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "default", "choices": choices,
            "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 }
        });
        format!("data: {chunk}\n\n")
    };
    let stream = chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]))
        + &chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]))
        + "data: [DONE]\n\n";
    ([("content-type", "text/event-stream")], stream)
}

/// One HTTP exchange on a unix socket.
pub(crate) fn http(
    socket: &Path,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> std::io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let json = &body[body.find(['{', '[']).unwrap_or(0)..body.rfind(['}', ']']).map_or(0, |end| end + 1)];
    Ok((status, serde_json::from_str(json).unwrap_or_default()))
}

/// Waits for `is_so`.
pub(crate) fn eventually(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tells whether the process still runs (a zombie does not).
pub(crate) fn runs((pid, start): &(u32, String)) -> bool {
    stat(*pid).is_some_and(|(state, _, now)| now == *start && state != "Z")
}

fn stat(pid: u32) -> Option<(String, u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.to_string(), fields.get(1)?.parse().ok()?, fields.get(19)?.to_string()))
}

fn descendants(root: u32) -> Vec<(u32, String)> {
    let all: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(_, parent, start)| (pid, parent, start)))
        .collect();
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for (pid, _, start) in all.iter().filter(|(_, above, _)| *above == parent) {
            found.push((*pid, start.clone()));
            next.push(*pid);
        }
    }
    found
}
