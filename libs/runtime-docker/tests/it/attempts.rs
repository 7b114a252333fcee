//! What a tenant's shell may try, one test per attempt.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use reef_model::Power;
use reef_runtime::{
    InstanceSpec, RuntimeError,
    conformance::{ask, run, spec},
};
use serde_json::{Value, json};

use super::*;

/// An instance, and a shell in it.
struct Tenant {
    harness: Arc<Containers>,
    runtime: Arc<dyn Runtime>,
    spec: InstanceSpec,
    handle: String,
}

impl Tenant {
    async fn start(harness: &Arc<Containers>) -> Self {
        let (runtime, spec) = (harness.runtime().await, spec());
        let handle = runtime.ensure_started(&spec, Duration::ZERO).await.unwrap().handle;
        Self { harness: harness.clone(), runtime, spec, handle }
    }

    async fn shell(&self, script: &str) -> Value {
        ask(&*self.runtime, self.spec.id, json!({"hands": ["bash", "-c", script]})).await
    }

    async fn succeeds(&self, script: &str) -> bool {
        let done = self.shell(script).await;
        assert!(done["code"].is_number(), "{done}");
        done["code"] == 0
    }

    fn address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}";
        docker(&["inspect", "--format", format, &self.handle]).trim().to_owned()
    }
}

async fn with<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Arc<Containers>) -> F) {
    let harness = Arc::new(Containers::new().await);
    let same = harness.clone();
    run(harness, |_| case(same)).await;
}

/// A script that succeeds when something answers at the address; a connect alone may succeed through a middlebox.
fn reach(host: &str, port: u16) -> String {
    format!("exec 3<>/dev/tcp/{host}/{port} && echo hello >&3 && test \"$(timeout 2 head -n 1 <&3)\" = pong")
}

/// Listens on all addresses of the host and answers every line with `pong`.
fn listen() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = peer.read(&mut [0; 64]);
                let _ = peer.write_all(b"pong\n");
            });
        }
    });
    port
}

/// An address of the host's own, until dropped.
struct Address(&'static str);

impl Address {
    fn add(address: &'static str) -> Self {
        assert!(ip(&["address", "replace", &format!("{address}/32"), "dev", "lo"]));
        Self(address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        ip(&["address", "del", &format!("{}/32", self.0), "dev", "lo"]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).status().unwrap().success()
}

const SERVE: &str = "import socketserver as s
class H(s.StreamRequestHandler):
    def handle(self): self.rfile.readline(); self.wfile.write(b'pong\\n')
s.TCPServer(('0.0.0.0', 7777), H).serve_forever()";

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_host_and_neighbours_are_out_of_reach() {
    with(async |harness: Arc<Containers>| {
        let (one, two) = (Tenant::start(&harness).await, Tenant::start(&harness).await);
        let port = listen();
        let metadata = Address::add("169.254.169.254");
        ask(&*two.runtime, two.spec.id, json!({"leave": ["python3", "-c", SERVE]})).await;
        let theirs = two.address();
        let (neighbour, gateway) = theirs.split_once(' ').unwrap();
        // Both listeners do answer: the neighbour's from inside and from the host, ours on its own address.
        let own = reach("127.0.0.1", 7777);
        let patient = format!("for i in {{1..100}}; do ({own}) && exit 0; sleep 0.1; done; exit 1");
        assert!(two.succeeds(&patient).await);
        let from_host =
            |host: &str, port| Command::new("bash").args(["-c", &reach(host, port)]).status().unwrap();
        assert!(from_host(neighbour, 7777).success());
        assert!(from_host(gateway, port).success());
        assert!(from_host(metadata.0, port).success());

        let route = Command::new("hostname").arg("-I").output().unwrap();
        let addresses = String::from_utf8(route.stdout).unwrap();
        let mut targets = vec![(neighbour, 7777), (gateway, port), (metadata.0, port)];
        targets.extend(addresses.split_whitespace().filter(|it| !it.contains(':')).map(|it| (it, port)));
        for (host, port) in targets {
            let script = format!("timeout 2 bash -c '{}'", reach(host, port).replace('\'', "'\\''"));
            assert!(!one.succeeds(&script).await, "{host}:{port} was reached");
        }
        assert!(one.succeeds("! grep -q eth0 /proc/net/if_inet6").await, "IPv6 goes round the rules");
        // Names that the host can resolve are resolved, though the resolver may have a private address.
        let name = "getent hosts deb.debian.org";
        let is_known = Command::new("sh").args(["-c", name]).status().unwrap().success();
        assert!(!is_known || one.succeeds(name).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_a_neighbour_on_another_bridge_is_out_of_reach() {
    with(async |harness: Arc<Containers>| {
        let other = Arc::new(Containers::new().await);
        let (one, two) = (Tenant::start(&harness).await, Tenant::start(&other).await);
        ask(&*two.runtime, two.spec.id, json!({"leave": ["python3", "-c", SERVE]})).await;
        let theirs = two.address();
        let (neighbour, gateway) = theirs.split_once(' ').unwrap();
        assert!(!one.address().ends_with(gateway), "two deployments share a network");
        let own = reach("127.0.0.1", 7777);
        let patient = format!("for i in {{1..100}}; do ({own}) && exit 0; sleep 0.1; done; exit 1");
        assert!(two.succeeds(&patient).await);
        let is_reached = one.succeeds(&format!("timeout 2 bash -c '{}'", reach(neighbour, 7777))).await;
        let seen = one.runtime.list().await.unwrap().len();
        assert!(!is_reached);
        assert_eq!(seen, 1, "one deployment sees the other's instance");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_rules_that_others_removed_or_overtook_are_back() {
    let iptables = |args: &str| {
        let mut command = Command::new("iptables");
        let output = command.args(["--wait", "10"]).args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "iptables {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    with(async move |harness: Arc<Containers>| {
        let tenant = Tenant::start(&harness).await;
        for (from, to) in [("INPUT", "REEF-IN"), ("DOCKER-USER", "REEF-FWD")] {
            let (jump, overtakes) =
                (format!("{from} -i reef+ -j {to}"), format!("{from} -s 192.0.2.1 -j ACCEPT"));
            let length = iptables(&format!("-S {to}")).lines().count();
            let is_whole = || {
                let first = iptables(&format!("-S {from} 1")) == format!("-A {jump}\n");
                first && iptables(&format!("-S {to}")).lines().count() == length
            };
            assert!(is_whole());
            for damage in [format!("-D {jump}"), format!("-F {to}"), format!("-I {overtakes}")] {
                iptables(&damage);
                assert!(!is_whole(), "{damage}");
                tenant.runtime.keep().await.unwrap();
                assert!(is_whole(), "{damage}");
            }
            iptables(&format!("-D {overtakes}"));
            iptables(&format!("-D {jump}"));
            tenant.runtime.ensure_started(&spec(), Duration::ZERO).await.unwrap();
            assert!(is_whole(), "before a start");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_hands_cannot_touch_the_door() {
    with(async |harness: Arc<Containers>| {
        let tenant = Tenant::start(&harness).await;
        let door = ask(&*tenant.runtime, tenant.spec.id, json!({})).await["pid"].as_u64().unwrap();
        assert!(
            tenant
                .succeeds("test $(id -u) = 10001 && touch /workspace/x /home/claw/y /tmp/z /run/claw/w")
                .await
        );
        for attempt in [
            "ls /var/lib/reef",
            "ls /run/reef/out",
            "cat /run/reef/in/boot.json",
            "touch /run/reef/out/x",
            "mv /run/reef/out /run/reef/other",
            "rm -rf /run/reef/out/door.sock; ls /run/reef/out/door.sock",
            "mount -t tmpfs none /run/reef/out",
            "kill -9 1",
            &format!("kill -9 {door}"),
            &format!("cat /proc/{door}/environ"),
            &format!("ls /proc/{door}/fd"),
            &format!("head -c 1 /proc/{door}/mem"),
            &format!("ls /proc/{door}/root/"),
        ] {
            assert!(!tenant.succeeds(attempt).await, "{attempt}");
        }
        assert_eq!(ask(&*tenant.runtime, tenant.spec.id, json!({})).await["runs"], 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_hands_gain_no_privilege() {
    with(async |harness: Arc<Containers>| {
        let tenant = Tenant::start(&harness).await;
        let status = tenant.shell("grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/self/status").await;
        let lines: Vec<_> = status["out"].as_str().unwrap().lines().collect();
        assert_eq!(lines.len(), 5, "{status}");
        for line in lines {
            let wanted = if line.starts_with("Cap") { "0000000000000000" } else { "1" };
            assert_eq!(line.split_whitespace().last(), Some(wanted), "{line}");
        }
        assert!(tenant.succeeds("test -u /usr/local/bin/root-id").await);
        assert_eq!(tenant.shell("root-id -u").await["out"], "10001\n");
        for attempt in [
            "su -c true",
            "cat /etc/shadow",
            "unshare -U true",
            "unshare -n true",
            "chroot / true",
            "dmesg",
            "touch /etc/x",
            "touch /usr/local/bin/x",
            "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
            "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
            "python3 -c 'import os; os.setuid(0)'",
            "mknod /tmp/disk b 8 0",
        ] {
            assert!(!tenant.succeeds(attempt).await, "{attempt}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_limits_hold() {
    with(async |harness: Arc<Containers>| {
        let (runtime, mut spec) = (harness.runtime().await, spec());
        spec.limits.pids = 64;
        spec.limits.memory_bytes = 512 << 20;
        let handle = runtime.ensure_started(&spec, Duration::ZERO).await.unwrap().handle;
        let tenant = Tenant { harness: harness.clone(), runtime, spec, handle };
        // More processes than allowed; the rest of the container goes on.
        assert!(!tenant.succeeds("for i in {1..200}; do sleep 5 & done; test $(jobs -p | wc -l) -ge 200").await);
        // More memory than allowed: the hog dies, the door lives, and nothing is swapped.
        assert!(!tenant.succeeds("sleep 6; python3 -c 'x = bytearray(700 << 20)'").await);
        let observed = tenant.runtime.inspect(tenant.spec.id).await.unwrap().unwrap();
        assert_eq!((observed.power, observed.exit), (Power::Running, None));
        assert!(!tenant.succeeds("ulimit -c unlimited").await);
        assert!(!tenant.succeeds("head -c 300M /dev/zero > /tmp/full").await);
        let wanted = r#"["ALL"] 536870912 536870912 64 no local"#;
        let format = "{{json .HostConfig.CapDrop}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} \
                      {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Type}}";
        assert_eq!(docker(&["inspect", "--format", format, &tenant.handle]).trim(), wanted);
        assert_eq!(tenant.handle.len(), 64);
        assert_eq!(tenant.harness.live(tenant.spec.id).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_docker_a_missing_image_says_what_to_type() {
    with(async |harness: Arc<Containers>| {
        let runtime = harness.runtime().await;
        let spec = InstanceSpec { image: Some("reef-instance:never".into()), ..spec() };
        match runtime.ensure_started(&spec, Duration::ZERO).await {
            Err(RuntimeError::Refused(message)) => assert!(message.contains("make images"), "{message}"),
            other => panic!("{other:?}"),
        }
        let missing = DockerConfig { image: "reef-instance:never".into(), ..harness.config() };
        let findings = DockerRuntime::connect(missing).await.unwrap().check().await;
        assert!(findings.iter().any(|it| it.is_fatal && it.message.contains("make images")), "{findings:?}");
        let findings = runtime.check().await;
        assert!(findings.iter().all(|it| !it.is_fatal), "{findings:?}");
    })
    .await;
}

#[tokio::test]
async fn no_engine_says_what_to_type() {
    let config = DockerConfig {
        host: "unix:///nowhere/docker.sock".into(),
        data_dir: "/nowhere".into(),
        deployment: "none".into(),
        image: IMAGE.into(),
        subnets: Ipv4Addr::new(10, 213, 0, 0),
        resolv_conf: String::new(),
        terminal_idle: TERMINAL_IDLE,
    };
    let error = DockerRuntime::connect(config).await.unwrap_err();
    assert!(error.to_string().contains("systemctl start docker"), "{error}");
}
