//! The pipe of the desktop, beside websockify: how fast pictures pass, and what a viewer costs.
//!
//! Behind both is the same stand-in for the X server, which sends as fast as it is read.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::say;
use crate::{
    process::{Running, cpu_micros, family},
    target::{free_port, wait_for},
    workbench::Workbench,
};

const BYTES: u64 = 2 << 30;
const ROUNDS: usize = 3;
const VIEWERS: usize = 20;
/// What each of them has seen when it is weighed.
const SEEN_BYTES: u64 = 16 << 20;

struct Way {
    name: &'static str,
    /// Host and port.
    at: String,
    path: String,
    key: String,
    pids: Vec<i32>,
}

pub(crate) async fn run(bench: &Workbench) {
    start(bench);
    let socket = bench.workspace.with_file_name("home").join(".cache/reef/vnc.sock");
    stand_in(&socket);
    let port = free_port();
    let websockify = Command::new("websockify")
        .arg(format!("127.0.0.1:{port}"))
        .arg(format!("--unix-target={}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let websockify = Running(websockify.expect("websockify is installed: apt-get install websockify"));
    wait_for(|| TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let (host, path) = bench.base.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let key = bench.key.clone();
    let ways = [
        Way {
            name: "websockify",
            at: format!("127.0.0.1:{port}"),
            path: "/".into(),
            key: key.clone(),
            pids: vec![websockify.pid()],
        },
        Way {
            name: "reef",
            at: host.into(),
            path: format!("/{path}/vnc/ws"),
            key,
            pids: vec![bench.reef.pid(), bench.door],
        },
    ];
    say("\n### The desktop's pipe, one viewer, best of three\n");
    say("| | MB/s | × websockify | CPU s per GB | KiB per viewer |");
    say("| --- | ---: | ---: | ---: | ---: |");
    let mut yardstick = None;
    for way in &ways {
        let (mut best, mut cpu) = (Duration::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            let mut viewer = view(way);
            let (pids, began) = (family(&way.pids), Instant::now());
            let before = cpu_micros(&pids);
            read(&mut viewer, BYTES);
            best = best.min(began.elapsed());
            cpu = cpu.min(cpu_micros(&pids) - before);
        }
        let gigabytes = BYTES as f64 / 1e9;
        let (rate, cpu) = (gigabytes * 1e3 / best.as_secs_f64(), cpu as f64 / 1e6 / gigabytes);
        let ratio = rate / *yardstick.get_or_insert(rate);
        let weight = weigh(way);
        say(&format!("| {} | {rate:.0} | {ratio:.2} | {cpu:.2} | {weight:.0} |", way.name));
    }
}

/// Has the desktop start, by a picture of it.
fn start(bench: &Workbench) {
    let (host, path) = bench.base.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let (path, key) = (format!("/{path}/vnc/screenshot"), &bench.key);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// Puts a server that only sends in the place of the X server's.
fn stand_in(socket: &Path) {
    std::fs::rename(socket, socket.with_extension("real")).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    // Hands is another user.
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let block = vec![b'x'; 256 << 10];
                while stream.write_all(&block).is_ok() {}
            });
        }
    });
}

/// Opens a WebSocket of which only the bytes are counted: a client costs as little as one can.
fn view(way: &Way) -> TcpStream {
    let mut stream = TcpStream::connect(&way.at).unwrap();
    let Way { at, path, key, .. } = way;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {key}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: binary\r\n\r\n"
    )
    .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101", "{}", way.name);
    stream
}

fn read(viewer: &mut TcpStream, bytes: u64) {
    let (mut buffer, mut came) = (vec![0; 1 << 20], 0);
    while came < bytes {
        let count = viewer.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended after {came} bytes");
        came += count as u64;
    }
}

/// Returns the memory in KiB that a viewer takes who has seen something and reads no more: it holds all that it can.
fn weigh(way: &Way) -> f64 {
    let before = proportional_kib(&family(&way.pids));
    let mut viewers: Vec<TcpStream> = (0..VIEWERS).map(|_| view(way)).collect();
    viewers.iter_mut().for_each(|viewer| read(viewer, SEEN_BYTES));
    std::thread::sleep(Duration::from_millis(500));
    (proportional_kib(&family(&way.pids)) as f64 - before as f64) / VIEWERS as f64
}

/// Returns the memory of the processes, where pages that several have count once.
fn proportional_kib(pids: &[i32]) -> u64 {
    let kib = |pid: &i32| {
        let sums = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = sums.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    pids.iter().filter_map(kib).sum()
}
