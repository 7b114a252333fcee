//! What a tenant's shell may try. Each attempt prints `NAME held` or `NAME BROKEN: how`; one boot serves them all.

use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

use crate::harness::{As, DOOR_TOKEN, Instance, SERVICE_UID, TENANT_UID, is_root, runs};

/// `attempt NAME COMMAND`: the command's success is the tenant's.
const PRELUDE: &str = r#"
attempt() { name=$1; shift; if out=$("$@" 2>&1); then echo "$name BROKEN: $out" | head -c 400; echo; else echo "$name held"; fi; }
absent() { name=$1; shift; if [ -e "$1" ]; then echo "$name BROKEN: $(ls -ld "$1")"; else echo "$name held"; fi; }
"#;

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
        let name = SocketAddr::from_abstract_name(b"reef-it-other").unwrap();
        let r#abstract = UnixListener::bind_addr(&name).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        r#abstract.set_nonblocking(true).unwrap();
        let mut instance = Instance::start(isolation, who);
        instance.wait_ready();
        Self { instance, tcp, unix, r#abstract, elsewhere }
    }

    /// Runs the script after [`PRELUDE`] and checks that each of `names` held.
    fn all_held(&self, script: &str, names: &[&str]) {
        let said = self.instance.run_in_hands(&format!("{PRELUDE}\n{script}"));
        for name in names {
            assert!(said.lines().any(|line| line.trim() == format!("{name} held")), "{name}: {said}");
        }
        assert!(!said.contains("BROKEN"), "{said}");
    }
}

fn bubblewrap(who: As, outside_uid: u32) {
    let mut scene = Scene::new("bubblewrap", who);
    let door = scene.instance.pid();
    let dir = scene.instance.dir.path().display().to_string();

    // Kill the door, read its memory, environment and open files.
    scene.all_held(
        &format!(
            "attempt kill kill -9 {door}\n\
             attempt environ head -c 1 /proc/{door}/environ\n\
             attempt memory head -c 1 /proc/{door}/mem\n\
             attempt files ls /proc/{door}/fd\n\
             attempt sees-door grep -la -e '--state-dir' -r /proc --include=cmdline -s"
        ),
        &["kill", "environ", "memory", "files", "sees-door"],
    );

    // Its files: the boot file, the chat log, the sockets; and what else is on the machine.
    scene.all_held(
        &format!(
            "absent run {dir}/run\nabsent state {dir}/state\nabsent chat-log {dir}/state/chat.db\n\
             absent boot {dir}/run/in/boot.json\nabsent door-socket {dir}/run/out/door.sock\n\
             absent model-socket {dir}/run/in/model.sock\nabsent root /root\nabsent shadow /etc/shadow\n\
             absent staging /mnt/home\nabsent docker /var/run/docker.sock"
        ),
        &[
            "run",
            "state",
            "chat-log",
            "boot",
            "door-socket",
            "model-socket",
            "root",
            "shadow",
            "staging",
            "docker",
        ],
    );

    // Its token, anywhere that can be read. Put together here, so that the script itself does not hold it.
    let (first, second) = DOOR_TOKEN.split_at(6);
    scene.all_held(
        &format!(
            "printf '%s%s' '{first}' '{second}' > /workspace/.pattern\n\
             attempt token-in-files grep -rlas -f /workspace/.pattern /home /opt/reef /etc /tmp\n\
             attempt token-in-proc sh -c 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | grep -qa -f /workspace/.pattern'"
        ),
        &["token-in-files", "token-in-proc"],
    );

    // A listener of the host: by its loopback address, through the way out, by name; and the cloud's metadata.
    let port = scene.tcp.local_addr().unwrap().port();
    scene.all_held(
        &format!(
            "attempt loopback curl -sS -m 5 --noproxy '*' http://127.0.0.1:{port}/\n\
             attempt loopback6 curl -sS -m 5 --noproxy '*' http://[::1]:{port}/\n\
             attempt proxied curl -sS -f -m 5 --noproxy '' -x \"$HTTP_PROXY\" http://127.0.0.1:{port}/\n\
             attempt tunnelled curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://127.0.0.1:{port}/\n\
             attempt named curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://localhost:{port}/\n\
             attempt mapped curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://[::ffff:127.0.0.1]:{port}/\n\
             attempt zero curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://0.0.0.0:{port}/\n\
             attempt own-address curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://{}:{port}/\n\
             attempt metadata curl -sS -f -m 5 --noproxy '' -p -x \"$HTTP_PROXY\" http://169.254.169.254/",
            own_address()
        ),
        &[
            "loopback", "loopback6", "proxied", "tunnelled", "named", "mapped", "zero", "own-address", "metadata",
        ],
    );
    assert!(scene.tcp.accept().is_err(), "somebody reached the host's listener");

    // Another instance: its socket by path and by abstract name.
    let other = scene.elsewhere.path().join("door.sock").display().to_string();
    scene.all_held(
        &format!(
            "attempt other-socket curl -sS -m 5 --unix-socket {other} http://door/status\n\
             attempt other-abstract curl -sS -m 5 --abstract-unix-socket reef-it-other http://door/status"
        ),
        &["other-socket", "other-abstract"],
    );
    assert!(scene.unix.accept().is_err() && scene.r#abstract.accept().is_err());

    // More rights: user namespaces, set-uid programs, capabilities, writing where it is read-only.
    scene.all_held(
        "attempt userns unshare -Ur true\nattempt mount mount -t tmpfs x /workspace\n\
         attempt write-system touch /usr/x\nattempt write-openclaw touch /opt/openclaw/x\n\
         attempt write-door sh -c 'echo x >> /opt/reef/reef-instance'\nattempt write-root touch /x\n\
         attempt capabilities grep -E 'Cap(Prm|Eff|Bnd|Amb):.*[1-9a-f]' /proc/self/status\n\
         attempt new-privileges grep -E 'NoNewPrivs:.*0' /proc/self/status\n\
         attempt root-id sh -c '[ $(id -u) = 0 ]'",
        &[
            "userns",
            "mount",
            "write-system",
            "write-openclaw",
            "write-door",
            "write-root",
            "capabilities",
            "new-privileges",
            "root-id",
        ],
    );

    // The relay wants its token.
    let base = "$(grep -o 'http://127.0.0.1:[0-9]*/v1' ~/.openclaw/openclaw.json | head -1)";
    scene.all_held(
        &format!("attempt relay curl -sS -f -m 5 --noproxy '*' -H 'Authorization: Bearer no' {base}/models"),
        &["relay"],
    );

    // Outside, its processes are the tenant's and nobody else's.
    for (pid, _) in scene.instance.processes() {
        if let Ok(meta) = std::fs::metadata(format!("/proc/{pid}/status")) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default().to_owned();
            let is_theirs = uids.split_whitespace().skip(1).all(|uid| uid == outside_uid.to_string());
            assert!(is_theirs, "{pid} {uids} {meta:?}");
        }
    }

    // Everything it can signal: hands goes, the door stays and starts another.
    let before = scene.instance.processes();
    scene.instance.run_detached("kill -9 -1");
    let status = scene.instance.wait_status("hands started again", |status| status["gateway_restarts"] == 1);
    assert_eq!(status["phase"], "starting");
    scene.instance.wait_ready();
    assert!(!before.iter().any(runs), "the old tree is gone");
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
    scene.all_held(
        &format!(
            "attempt kill kill -9 {door}\nattempt environ head -c 1 /proc/{door}/environ\n\
             attempt memory head -c 1 /proc/{door}/mem\nattempt files ls /proc/{door}/fd\n\
             attempt state ls {dir}/state\nattempt instance ls {dir}\nattempt chat-log head -c 1 {dir}/state/chat.db\n\
             attempt boot head -c 1 {dir}/run/in/boot.json\nattempt replace rm -f {dir}/run/out/door.sock\n\
             attempt other-abstract curl -sS -m 5 --abstract-unix-socket reef-it-other http://door/status\n\
             attempt relay curl -sS -f -m 5 --noproxy '*' -H 'Authorization: Bearer no' \
                 $(grep -o 'http://127.0.0.1:[0-9]*/v1' ~/.openclaw/openclaw.json | head -1)/models"
        ),
        &[
            "kill",
            "environ",
            "memory",
            "files",
            "state",
            "chat-log",
            "boot",
            "replace",
            "other-abstract",
            "relay",
        ],
    );
    assert!(scene.r#abstract.accept().is_err());
}
