//! What a tenant's shell may try: the list of `tests/fixtures/hostile.sh`, which the container's tests run as well.
//! Each attempt prints `NAME held` or `NAME BROKEN: how`; one boot serves them all.

use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    time::Duration,
};

use crate::{
    harness::{As, DOOR_TOKEN, Instance, PIDS, SERVICE_UID, TENANT_UID, eventually, runs},
    skipped::is_root,
};

const ATTEMPTS: &str = include_str!("../../../../tests/fixtures/hostile.sh");
const ABSTRACT: &str = "reef-it-other";

struct Scene {
    instance: Instance,
    /// A listener on the host's loopback, one of another instance, and an abstract one: none may be reached.
    tcp: TcpListener,
    unix: UnixListener,
    r#abstract: UnixListener,
    elsewhere: tempfile::TempDir,
}

impl Scene {
    fn new(isolation: &str, who: As) -> Self {
        let elsewhere = tempfile::Builder::new().prefix("reef-other-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        let unix = UnixListener::bind(elsewhere.path().join("door.sock")).unwrap();
        std::fs::set_permissions(
            elsewhere.path().join("door.sock"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let name = SocketAddr::from_abstract_name(ABSTRACT).unwrap();
        let r#abstract = UnixListener::bind_addr(&name).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        r#abstract.set_nonblocking(true).unwrap();
        let mut instance = Instance::start(isolation, who);
        instance.wait_ready();
        Self { instance, tcp, unix, r#abstract, elsewhere }
    }

    /// Makes all attempts and checks that each held; `hidden` and `closed` are below the instance's directory.
    fn all_held(&self, hidden: &[&str], closed: &[&str], more: &[(&str, &str)]) {
        let dir = self.instance.dir.path().display().to_string();
        let below = |paths: &[&str]| {
            let all = paths
                .iter()
                .map(|path| if path.starts_with('/') { (*path).to_owned() } else { format!("{dir}/{path}") });
            all.collect::<Vec<_>>().join(" ")
        };
        let port = self.tcp.local_addr().unwrap().port();
        let hosts = ["127.0.0.1", "[::1]", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", &own_address()];
        let listeners = hosts.map(|host| format!("{host}:{port}")).join(" ");
        let (first, second) = DOOR_TOKEN.split_at(6);
        let mut env = vec![("TOKEN_A", first), ("TOKEN_B", second), ("ABSTRACT", ABSTRACT)];
        let (door, hidden, closed) = (self.instance.pid().to_string(), below(hidden), below(closed));
        let other = self.elsewhere.path().join("door.sock").display().to_string();
        env.extend([("DOOR", &*door), ("HIDDEN", &hidden), ("CLOSED", &closed), ("SOCKETS", &other)]);
        env.push(("LISTENERS", &listeners));
        env.extend(more);
        let said = self.instance.exec(ATTEMPTS, &env);
        assert!(!said.contains("BROKEN") && said.contains("- end"), "{said}");
        assert!(said.lines().filter(|line| line.ends_with(" held")).count() > 40, "{said}");
        assert!(self.tcp.accept().is_err(), "somebody reached the host's listener");
        assert!(self.unix.accept().is_err() && self.r#abstract.accept().is_err());
    }
}

/// What of an instance's directory nobody in it may see, and what of the machine.
const HIDDEN: &[&str] = &[
    "run",
    "state",
    "state/chat.db",
    "state/logs.jsonl",
    "run/in/boot.json",
    "run/in/model.sock",
    "run/out/door.sock",
    "/root",
    "/mnt/home",
    "/var/run/docker.sock",
];
const CLOSED: &[&str] = &["state/chat.db", "run/in/boot.json", "run/in/model.sock", "run/out/door.sock"];

fn bubblewrap(who: As, outside_uid: u32) {
    let mut scene = Scene::new("bubblewrap", who);
    let closed = [CLOSED, &["/opt/openclaw/x", "/opt/reef/reef-instance"]].concat();
    scene.all_held(HIDDEN, &closed, &[]);
    let sees = scene.instance.exec("grep -la -e '--state-di[r]' -r /proc --include=cmdline -s", &[]);
    assert_eq!(sees, "", "the door is seen");

    // A fork bomb ends at the limit, the machine goes on, and so does the door.
    let full = || scene.instance.processes().len() > PIDS / 2;
    scene.instance.run_detached("(bomb() { bomb | bomb & }; bomb) > /dev/null 2>&1 & sleep 2");
    eventually("the bomb goes off", Duration::from_secs(30), || {
        full() || scene.instance.get("/status").is_err()
    });
    assert!(scene.instance.processes().len() <= PIDS + 10);
    assert_eq!(scene.instance.get("/status").unwrap().0, 200);

    // Outside, its processes are the tenant's and nobody else's.
    for (pid, _) in scene.instance.processes() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
        let is_theirs = uids.split_whitespace().skip(1).all(|uid| uid == outside_uid.to_string());
        assert!(is_theirs, "{pid} {uids}");
    }

    // Everything it can signal: hands goes, the bomb with it, and the door stays and starts another.
    let before = scene.instance.processes();
    let hands = before.iter().map(|(pid, _)| *pid).min().unwrap();
    assert!(std::process::Command::new("kill").args(["-9", &hands.to_string()]).status().unwrap().success());
    scene.instance.wait_status("hands started again", |status| status["gateway_restarts"] == 1);
    scene.instance.wait_ready();
    assert!(!before.iter().any(runs), "the old tree is gone");
    scene.instance.run_detached("kill -9 -1");
    scene.instance.wait_status("hands started again", |status| status["gateway_restarts"] == 2);
    scene.instance.wait_ready();
}

/// An address of this machine that is not loopback; loopback where there is none.
fn own_address() -> String {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let found = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    found.map_or_else(|_| "127.0.0.1".to_owned(), |at| at.ip().to_string())
}

#[test]
fn real_hostile_shell_in_bubblewrap_of_root() {
    if is_root() {
        bubblewrap(As::Root, TENANT_UID);
    }
}

#[test]
fn real_hostile_shell_in_bubblewrap_of_a_service_user() {
    if is_root() {
        bubblewrap(As::Service, SERVICE_UID);
    }
}

#[test]
fn real_hostile_shell_under_landlock() {
    if !is_root() {
        return;
    }
    let scene = Scene::new("landlock", As::Service);
    let door = scene.instance.pid();
    let dir = scene.instance.dir.path().display().to_string();
    let said = scene.instance.exec(
        &format!(
            "attempt() {{ name=$1; shift; if out=$(\"$@\" 2>&1); then echo \"$name BROKEN: $out\"; else echo \"$name held\"; fi; }}\n\
             attempt kill kill -9 {door}\nattempt environ head -c 1 /proc/{door}/environ\n\
             attempt memory head -c 1 /proc/{door}/mem\nattempt files ls /proc/{door}/fd\n\
             attempt state ls {dir}/state\nattempt instance ls {dir}\nattempt chat-log head -c 1 {dir}/state/chat.db\n\
             attempt boot head -c 1 {dir}/run/in/boot.json\nattempt replace rm -f {dir}/run/out/door.sock\n\
             attempt other-abstract curl -sS -m 5 --abstract-unix-socket {ABSTRACT} http://door/status\n\
             attempt relay curl -sS -f -m 5 --noproxy '*' -H 'Authorization: Bearer no' \
                 $(grep -o 'http://127.0.0.1:[0-9]*/v1' ~/.openclaw/openclaw.json | head -1)/models"
        ),
        &[],
    );
    assert_eq!(said.lines().filter(|line| line.ends_with(" held")).count(), 11, "{said}");
    assert!(scene.r#abstract.accept().is_err());
}
