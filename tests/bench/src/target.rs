//! What is measured: the upstream itself, nginx, nginx with `auth_request`, and Reef.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use reef_door::{Boot, RunDir};

use crate::process::{Running, family, pin};

const PATIENCE: Duration = Duration::from_secs(60);

/// A way to the upstream.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// What stands before `/chat/…`.
    pub(crate) base: String,
    pub(crate) token: String,
    /// The proxy's processes; none for the upstream itself.
    pub(crate) pids: Vec<i32>,
    /// Whether the others are compared with it.
    pub(crate) is_yardstick: bool,
}

/// Everything that runs; ends when dropped.
pub(crate) struct Setup {
    reef: Running,
    plain: Running,
    guarded: Running,
    auth: Running,
    door: Door,
    reef_base: String,
    key: String,
    plain_port: u16,
    guarded_port: u16,
}

/// The stand-in that Reef's runtime started; detached, so it is ended here.
struct Door {
    pid: i32,
    port: u16,
    token: String,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGTERM);
    }
}

impl Setup {
    pub(crate) async fn start(dir: &Path) -> Self {
        let myself = std::env::current_exe().unwrap();
        let port = free_port();
        let data = dir.join("data");
        let (reef, greeting) = start_reef(&myself, &fake_openclaw(&data), port, &data);
        let origin = format!("http://127.0.0.1:{port}");
        let (key, made) = make_instance(&origin, &greeting).await;
        let id = made["id"].as_str().unwrap();

        let run_dir = RunDir::new(data.join("instances").join(id).join("run"));
        let boot: Boot = serde_json::from_slice(&std::fs::read(run_dir.boot_file()).unwrap()).unwrap();
        let door = Door {
            pid: made["sandbox_id"].as_str().unwrap().split(':').next().unwrap().parse().unwrap(),
            port: std::fs::read_to_string(run_dir.outward().join("port")).unwrap().parse().unwrap(),
            token: boot.door_token,
        };
        let auth_socket = dir.join("auth.sock");
        let auth = Running(Command::new(&myself).arg("auth").arg(&auth_socket).spawn().unwrap());
        wait_for(|| auth_socket.exists()).await;
        let (plain_port, guarded_port) = (free_port(), free_port());
        let plain = start_nginx(&dir.join("plain"), plain_port, &run_dir, &door.token, None);
        let guarded =
            start_nginx(&dir.join("guarded"), guarded_port, &run_dir, &door.token, Some(&auth_socket));
        for port in [plain_port, guarded_port] {
            wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        }
        let reef_base = format!("{origin}/api/instances/{id}");
        Self { reef, plain, guarded, auth, door, reef_base, key, plain_port, guarded_port }
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let target = |name, base, pids: &[i32]| Target {
            name,
            base,
            token: self.key.clone(),
            pids: pids.to_vec(),
            is_yardstick: false,
        };
        let (auth, guarded) = (self.auth.pid(), self.guarded.pid());
        vec![
            target("upstream, direct", local(self.door.port), &[]),
            target("nginx", local(self.plain_port), &[self.plain.pid()]),
            Target {
                is_yardstick: true,
                ..target("nginx + auth_request", local(self.guarded_port), &[guarded, auth])
            },
            target("reef", self.reef_base.clone(), &[self.reef.pid()]),
        ]
    }

    /// Puts everything on the cores of `list`.
    pub(crate) fn pin(&self, list: &str) {
        let roots = [self.reef.pid(), self.plain.pid(), self.guarded.pid(), self.auth.pid(), self.door.pid];
        pin(&family(&roots), list);
    }

    pub(crate) fn unpin(&self) {
        let last = std::thread::available_parallelism().unwrap().get() - 1;
        self.pin(&format!("0-{last}"));
    }

    /// Waits until the upstream has so many followers.
    pub(crate) async fn wait_for_followers(&self, count: usize) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/followers", self.door.port);
        tokio::time::timeout(PATIENCE, async {
            while client.get(&url).send().await.unwrap().text().await.unwrap() != count.to_string() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("never {count} followers"));
    }
}

/// Starts the release build with `instance` as its `reef-instance`, and returns what it greets with.
pub(crate) fn start_reef(instance: &Path, openclaw: &Path, port: u16, data: &Path) -> (Running, String) {
    let reef = built("reef", "REEF_BIN");
    let mut child = Command::new(&reef)
        .arg("serve")
        .env("REEF_LISTEN", format!("127.0.0.1:{port}"))
        .env("REEF_DATA_DIR", data)
        .env("REEF_INSTANCE_BIN", instance)
        .env("REEF_OPENCLAW_DIR", openclaw)
        .env("REEF_RATE_LIMITS", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; type `make bench`", reef.display()));
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut greeting = String::new();
    while greeting.matches("curl ").count() < 3 {
        assert_ne!(lines.read_line(&mut greeting).unwrap(), 0, "reef ended: {greeting}");
    }
    (Running(child), greeting)
}

/// Returns the program of that name beside this one, unless the variable names another.
pub(crate) fn built(name: &str, variable: &str) -> PathBuf {
    let beside = || std::env::current_exe().unwrap().with_file_name(name);
    std::env::var_os(variable).map_or_else(beside, PathBuf::from)
}

/// Makes an instance with the key and the invite of the greeting, and waits until it is ready.
pub(crate) async fn make_instance(origin: &str, greeting: &str) -> (String, serde_json::Value) {
    let word = |begin: &str| {
        let at = greeting.find(begin).unwrap_or_else(|| panic!("{begin} in {greeting}"));
        let rest = &greeting[at + begin.len()..];
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next().unwrap().to_owned()
    };
    let (key, invite) = (word("KEY="), word("\"invite_code\":\""));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = client
        .post(format!("{origin}/api/instances?wait=120"))
        .bearer_auth(&key)
        .json(&serde_json::json!({ "name": "bench", "invite_code": invite }))
        .send()
        .await
        .unwrap();
    let text = made.text().await.unwrap();
    let made: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(made["status"], "ready", "{text}");
    (key, made)
}

/// Makes what the process runtime wants to see before it starts anything.
fn fake_openclaw(data: &Path) -> PathBuf {
    let dir = data.with_file_name("openclaw");
    for file in ["node/node", "node_modules/openclaw/openclaw.mjs"] {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    dir
}

fn start_nginx(dir: &Path, port: u16, run_dir: &RunDir, token: &str, auth: Option<&Path>) -> Running {
    std::fs::create_dir(dir).unwrap();
    let (dir_text, door) = (dir.display(), run_dir.door_socket());
    let door = door.display();
    let workers = std::thread::available_parallelism().unwrap();
    let (upstream, check, location) = auth.map_or_else(Default::default, |socket| {
        (
            format!("upstream auth {{ server unix:{}; keepalive 256; }}", socket.display()),
            "auth_request /_auth;".to_owned(),
            "location = /_auth { internal; proxy_pass http://auth; proxy_pass_request_body off; \
             proxy_set_header Content-Length ''; proxy_set_header Connection ''; proxy_http_version 1.1; }"
                .to_owned(),
        )
    });
    let conf = format!(
        "daemon off; user root; worker_processes {workers}; pid {dir_text}/pid; error_log {dir_text}/error.log crit;
         worker_rlimit_nofile 20000;
         events {{ worker_connections 8192; }}
         http {{
           access_log off; keepalive_requests 1000000;
           client_body_temp_path {dir_text}; proxy_temp_path {dir_text}; fastcgi_temp_path {dir_text};
           uwsgi_temp_path {dir_text}; scgi_temp_path {dir_text};
           upstream door {{ server unix:{door}; keepalive 256; keepalive_requests 1000000; }}
           {upstream}
           server {{
             listen 127.0.0.1:{port};
             location / {{
               {check}
               proxy_pass http://door; proxy_http_version 1.1; proxy_set_header Connection '';
               proxy_set_header Authorization 'Bearer {token}'; proxy_buffering off; proxy_read_timeout 1h;
             }}
             {location}
           }}
         }}"
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, conf).unwrap();
    let child = Command::new("nginx").arg("-e").arg(dir.join("error.log")).arg("-c").arg(&path).spawn();
    Running(child.expect("nginx is installed: apt-get install nginx-light"))
}

pub(crate) async fn wait_for(is_so: impl Fn() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("everything starts within a minute");
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
