//! A tenant's shell against the real door and the real hands in a container.
//!
//! The list of attempts is the one that the sandboxes of the process runtime are tested with.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::platform::{Client, Platform};

const ATTEMPTS: &str = include_str!("../fixtures/hostile.sh");
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a script as the owner's shell does.
async fn shell(client: &Client, id: &str, script: &str, env: Value) -> Value {
    let body = json!({ "argv": ["bash", "-c", script], "env": env, "timeout_ms": 150_000 });
    let (status, result) =
        client.call("POST", &format!("/api/instances/{id}/terminal/exec"), Some(body)).await;
    assert_eq!(status, 200, "{result}");
    result
}

fn run(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output().unwrap();
    assert!(output.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the door says of itself, asked past the control plane.
fn door_status(run_dir: &Path, token: &str) -> Value {
    let socket = run_dir.join("out/door.sock");
    let token = format!("Authorization: Bearer {token}");
    let args =
        ["-sS", "-m", "10", "-H", &token, "--unix-socket", socket.to_str().unwrap(), "http://door/status"];
    serde_json::from_str(&run("curl", &args)).unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "not in time: {what}");
}

/// Where a cloud's metadata service listens, and here we do.
const METADATA: &str = "169.254.169.254";

/// An address of this machine's own, until dropped.
struct Address(&'static str);

impl Address {
    fn add(address: &'static str) -> Self {
        run("ip", &["address", "replace", &format!("{address}/32"), "dev", "lo"]);
        Self(address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let address = format!("{}/32", self.0);
        let _ = Command::new("ip").args(["address", "del", &address, "dev", "lo"]).status();
    }
}

/// Listens where this machine comes and tenants may not; see [`nobody_came`].
fn listen(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn nobody_came(listener: &TcpListener) -> bool {
    listener.accept().is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_docker_hostile_shell() {
    let platform = Platform::start(&[("REEF_RUNTIME", "docker")]).await;
    let client = platform.operator().await;
    let id = client.instance().await;
    let chat = format!("/api/instances/{id}/chat");
    let (_, turn) = client.call("POST", &chat, Some(json!({ "message": "remember me" }))).await;
    assert_eq!(turn["status"], "completed", "{turn}");

    let run_dir = platform.data_dir().join("instances").join(&id).join("run");
    let boot: Value = serde_json::from_slice(&std::fs::read(run_dir.join("in/boot.json")).unwrap()).unwrap();
    let token = boot["door_token"].as_str().unwrap();
    let (first, second) = token.split_at(token.len() / 2);
    let (_, instance) = client.call("GET", &format!("/api/instances/{id}"), None).await;
    let name = instance["sandbox_id"].as_str().unwrap().to_owned();
    let began = run("docker", &["inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", &name]);
    let of_root = "for p in /proc/[0-9]*; do [ \"$(stat -c %u $p)\" = 0 ] && echo ${p#/proc/}; done; true";
    let doors = shell(&client, &id, of_root, json!({})).await["stdout"].as_str().unwrap().replace('\n', " ");
    assert!(doors.split_whitespace().count() >= 2, "init and the door: {doors}");

    let _address = Address::add(METADATA);
    let metadata = listen(&format!("{METADATA}:80"));
    let listener = listen("0.0.0.0:0");
    let port = listener.local_addr().unwrap().port();
    let addresses = run("hostname", &["-I"]);
    let listeners: Vec<_> = addresses
        .split_whitespace()
        .filter(|it| !it.contains(':'))
        .map(|it| format!("{it}:{port}"))
        .collect();
    // Anybody on this machine may read it.
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let marker = outside.path().join("marker");
    std::fs::write(&marker, "of the host").unwrap();
    let hidden = "/run/reef/in /run/reef/in/boot.json /run/reef/in/model.sock /run/reef/out /var/lib/reef \
                  /var/lib/reef/chat.db /var/lib/reef/logs.jsonl /var/run/docker.sock";
    let env = json!({
        "DOOR": doors,
        "HIDDEN": format!("{hidden} {}", marker.display()),
        "CLOSED": "/var/lib/reef/chat.db /run/reef/in/boot.json /run/reef/in/model.sock /run/reef/out/door.sock \
                   /opt/openclaw/x /usr/local/bin/reef-instance",
        "TOKEN_A": first, "TOKEN_B": second, "LISTENERS": listeners.join(" "), "SOCKETS": "/run/reef/out/door.sock",
        "ABSTRACT": "", "LIMITED": "yes",
    });
    let result = shell(&client, &id, ATTEMPTS, env).await;
    let said = result["stdout"].as_str().unwrap();
    assert!(!said.contains("BROKEN") && said.contains("- end"), "{result:#}");
    assert!(said.lines().filter(|line| line.ends_with(" held")).count() > 60, "{said}");
    assert!(nobody_came(&listener), "somebody reached the host");
    assert!(nobody_came(&metadata), "somebody reached the metadata service");

    // A fork bomb: the machine goes on, and so does the door, which answers while it is on.
    let bomb = "setsid bash -c 'bomb() { bomb | bomb & }; bomb' > /dev/null 2>&1 & sleep 1";
    let exec = json!({ "argv": ["bash", "-c", bomb], "timeout_ms": 5_000 });
    client.call("POST", &format!("/api/instances/{id}/terminal/exec"), Some(exec)).await;
    for _ in 0..5 {
        assert!(door_status(&run_dir, token)["phase"].is_string());
    }
    // Hands with all below it is ended by its door, or by hand here: the status tells, and it comes back.
    let restarts = door_status(&run_dir, token)["gateway_restarts"].as_u64().unwrap();
    let tenants = run("docker", &["top", &name, "-eo", "pid,uid"]);
    for line in tenants.lines().filter(|line| line.trim_end().ends_with("10001")) {
        let pid = line.split_whitespace().next().unwrap();
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    until("the restart is told", || {
        let status = door_status(&run_dir, token);
        status["gateway_restarts"].as_u64().unwrap() > restarts && status["phase"] == "ready"
    })
    .await;

    // The same door all along, and its log is whole.
    assert_eq!(run("docker", &["inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", &name]), began);
    let (_, messages) = client.call("GET", &format!("{chat}/messages"), None).await;
    assert_eq!(messages[0]["content"], "remember me", "{messages}");
    let (status, _) = client.call("DELETE", &format!("/api/instances/{id}?wait=60"), None).await;
    assert!(status < 300);
}
