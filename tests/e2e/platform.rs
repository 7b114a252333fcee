//! A running `reef serve` in a directory of its own, and a client of it.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::sse::SseStream;

pub(crate) const EMAIL: &str = "operator@reef.test";
pub(crate) const PASSWORD: &str = "a-long-operator-password";
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a server that can be killed and started again.
pub(crate) struct Platform {
    dir: tempfile::TempDir,
    port: u16,
    env: Vec<(String, String)>,
    child: Option<Child>,
    output: Arc<Mutex<String>>,
}

impl Platform {
    /// Starts a server with `env` on top of the plain local defaults.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let mut platform = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            child: None,
            output: Arc::default(),
        };
        platform.restart().await;
        platform
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The instances that have a directory.
    pub(crate) fn instances(&self) -> Vec<String> {
        names_in(&self.data_dir().join("instances"))
    }

    pub(crate) fn is_on_docker(&self) -> bool {
        self.env.iter().any(|(name, value)| name == "REEF_RUNTIME" && value == "docker")
    }

    /// The first process of each instance that runs.
    pub(crate) fn roots(&self) -> Vec<Pid> {
        if !self.is_on_docker() {
            return doors_below(&self.data_dir());
        }
        let of_instance =
            |id: String| docker(&["ps", "--quiet", "--filter", &format!("label=reef.instance={id}")]);
        let containers = self.instances().into_iter().map(of_instance).collect::<Vec<_>>().join("\n");
        let pid =
            |container: &str| docker(&["inspect", "--format", "{{.State.Pid}}", container]).parse().ok();
        containers.split_whitespace().filter_map(pid).map(Pid::from_raw).collect()
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it runs");
        Pid::from_raw(child.id().try_into().unwrap())
    }

    /// What the server has printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Starts the server (again) and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        let mut command = Command::new(required("REEF_BIN"));
        command
            .arg("serve")
            .env("REEF_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("REEF_DATA_DIR", self.data_dir())
            .env("REEF_ADMIN_EMAIL", EMAIL)
            .env("REEF_ADMIN_PASSWORD", PASSWORD)
            .env("REEF_INSTANCE_BIN", required("REEF_INSTANCE_BIN"))
            .env("REEF_OPENCLAW_DIR", required("REEF_OPENCLAW_DIR"))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("reef starts");
        collect(child.stdout.take().unwrap(), self.output.clone());
        collect(child.stderr.take().unwrap(), self.output.clone());
        self.child = Some(child);
        let ready = format!("{}/readyz", self.base());
        let client = http_client();
        let is_up = tokio::time::timeout(START_PATIENCE, async {
            loop {
                if let Ok(response) = client.get(&ready).send().await
                    && response.status().is_success()
                {
                    return;
                }
                let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
                assert!(ended.is_none(), "reef ended with {ended:?}:\n{}", self.output());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(is_up.await.is_ok(), "reef did not become ready:\n{}", self.output());
    }

    /// Kills the server as a power cut would: no handler runs.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the server to stop, waits until it has ended, and returns how.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
        self.ended().await
    }

    /// Waits until the server has ended, and returns how.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
    }

    /// Signs in as the operator and mints a key with every scope.
    pub(crate) async fn operator(&self) -> Client {
        Client::operator(self.base()).await
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.kill();
        // Instances outlive the server on purpose: end those of this directory.
        for door in doors_below(&self.data_dir()) {
            let _ = nix::sys::signal::kill(door, nix::sys::signal::Signal::SIGKILL);
        }
        if self.is_on_docker()
            && let Some(deployment) = deployment_of(&self.instances())
        {
            remove_from_engine(&deployment);
        }
        if std::thread::panicking() {
            eprintln!("--- output of reef ---\n{}", self.output());
        }
    }
}

/// Runs `docker`; empty where it fails.
pub(crate) fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The names in a directory; none where it is missing.
pub(crate) fn names_in(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The name by which the engine has all of the platform whose instances these are, while it has anything of one.
pub(crate) fn deployment_of(instances: &[String]) -> Option<String> {
    instances.iter().find_map(|instance| {
        let label = format!("label=reef.instance={instance}");
        let format = "{{.Label \"reef.deployment\"}}";
        let labels = docker(&["volume", "ls", "--filter", &label, "--format", format]);
        labels.lines().next().map(str::to_owned)
    })
}

/// Removes what the engine has of a platform.
pub(crate) fn remove_from_engine(deployment: &str) {
    let label = format!("label=reef.deployment={deployment}");
    // Networks last, and without force, which older clients do not know there.
    for (kind, all, force) in [
        ("container", &["--all"][..], &["--force"][..]),
        ("volume", &[], &["--force"]),
        ("network", &[], &[]),
    ] {
        let list = docker(&[&[kind, "ls", "--quiet", "--filter", &label], all].concat());
        list.lines().for_each(|name| drop(docker(&[&[kind, "rm"], force, &[name]].concat())));
    }
}

/// Returns the processes whose command line names the directory.
pub(crate) fn doors_below(dir: &std::path::Path) -> Vec<Pid> {
    let needle = dir.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
        })
        .map(Pid::from_raw)
        .collect()
}

/// An account's key (and the operator's cookie) against one server.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) base: String,
    pub(crate) key: String,
    cookie: String,
    pub(crate) http: reqwest::Client,
}

impl Client {
    /// Signs in as the operator of the server at `base` and mints a key with every scope.
    pub(crate) async fn operator(base: String) -> Self {
        let http = http_client();
        let post = |path: &str, body: Value, cookie: Option<String>| {
            let mut request = http.post(format!("{base}{path}")).header("origin", &base).json(&body);
            if let Some(cookie) = cookie {
                request = request.header("cookie", cookie);
            }
            request.send()
        };
        let response =
            post("/api/auth/login", json!({"email": EMAIL, "password": PASSWORD}), None).await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let key = post("/api/keys", json!({"name": "e2e"}), Some(cookie.clone())).await.unwrap();
        let key: Value = key.json().await.unwrap();
        let key = key["secret"].as_str().expect("a secret").to_owned();
        Self { base, key, cookie, http }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request =
            self.http.request(method.parse().unwrap(), format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// Calls with the operator's cookie instead of the key.
    pub(crate) async fn call_as_person(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let response = request
            .header("origin", &self.base)
            .header("cookie", &self.cookie)
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    pub(crate) async fn invite(&self) -> String {
        let (_, body) = self.call_as_person("POST", "/api/admin/invites", json!({"max_uses": 100})).await;
        body["code"].as_str().unwrap_or_else(|| panic!("no code in {body}")).to_owned()
    }

    /// Makes an instance and waits until it is ready.
    pub(crate) async fn instance(&self) -> String {
        let code = self.invite().await;
        let (status, body) =
            self.call("POST", "/api/instances?wait=120", Some(json!({"invite_code": code}))).await;
        assert_eq!(status, 201, "{body}");
        assert_eq!(body["status"], "ready", "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stream(&self, instance: &str, body: Value) -> SseStream {
        let response = self
            .http
            .post(format!("{}/api/instances/{instance}/chat/stream", self.base))
            .bearer_auth(&self.key)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{}", response.status());
        SseStream::new(response)
    }

    /// Follows every event of a session after `after`.
    pub(crate) async fn follow(&self, instance: &str, session: &str, after: u64) -> Option<SseStream> {
        let url = format!(
            "{}/api/instances/{instance}/chat/events?session_id={session}&after={after}&deltas=true",
            self.base
        );
        let response = self.http.get(url).bearer_auth(&self.key).send().await.ok()?;
        response.status().is_success().then(|| SseStream::new(response))
    }
}

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run the tests by `make test`"))
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn collect(from: impl std::io::Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
}

pub(crate) fn http_client() -> reqwest::Client {
    // A second install in the same process is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
