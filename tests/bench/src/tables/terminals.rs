//! Terminals: how long a key takes to come back, beside Jupyter's terminado; what an idle viewer costs; and many that
//! write at once.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::say;
use crate::{
    process::{Running, cpu_micros, family, resident_kib},
    target::{free_port, wait_for},
    workbench::Workbench,
};

/// Echoes by a process, not by the line discipline.
const ECHO: &str = "stty raw -echo; echo ready; exec cat";
const WARM_UP: usize = 300;
const KEYS: usize = 5000;
/// A key may have 64 sockets.
const IDLE_VIEWERS: usize = 60;
/// What each of many writes.
const BYTES_PER_SECOND: u64 = 40_000;
/// An instance has 64; those of the other tables run on.
const MANY: usize = 60;
const MANY_SECONDS: u64 = 30;

type Socket = WebSocketStream<TcpStream>;

pub(crate) async fn run(bench: &Workbench) {
    keys(bench).await;
    idle(bench).await;
    many(bench).await;
}

async fn keys(bench: &Workbench) {
    say("\n### A key there and back, one terminal\n");
    say("| | p50 µs | p99 µs | × terminado p50 | p99 |");
    say("| --- | ---: | ---: | ---: | ---: |");
    let port = free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/terminado-server.py");
    let server =
        Command::new("/usr/bin/python3").arg(script).arg(port.to_string()).args(["sh", "-c", ECHO]).spawn();
    let _server = Running(server.expect("python3 is installed: apt-get install python3-terminado"));
    wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let theirs = connect(&format!("ws://127.0.0.1:{port}/ws"), None).await;
    let key = |_| Message::text(r#"["stdin","x"]"#);
    let yardstick = latencies(theirs, key, |frame| frame == r#"["stdout", "x"]"#).await;
    let ours = open(bench, ECHO).await;
    let key = |_| Message::binary(&b"x"[..]);
    let reef = latencies(ours, key, |frame| frame == "x").await;
    for (name, (p50, p99)) in [("terminado", yardstick), ("reef", reef)] {
        let (by_p50, by_p99) = (yardstick.0 / p50, yardstick.1 / p99);
        say(&format!("| {name} | {p50:.0} | {p99:.0} | {by_p50:.2} | {by_p99:.2} |"));
    }
}

/// Returns p50 and p99 in microseconds of a key's way.
async fn latencies(
    mut socket: Socket,
    key: impl Fn(()) -> Message,
    is_echo: impl Fn(&str) -> bool,
) -> (f64, f64) {
    until(&mut socket, |text| text.contains("ready")).await;
    let mut micros = Vec::with_capacity(KEYS);
    for number in 0..WARM_UP + KEYS {
        let began = Instant::now();
        socket.send(key(())).await.unwrap();
        until(&mut socket, &is_echo).await;
        if number >= WARM_UP {
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    micros.sort_by(f64::total_cmp);
    (micros[KEYS / 2], micros[KEYS * 99 / 100])
}

async fn idle(bench: &Workbench) {
    let first = connect(&format!("{}/terminal/ws", ws(&bench.base)), Some(&bench.key)).await;
    let (first, id) = session(first).await;
    let of = |pid: i32| resident_kib(&[pid]);
    let before = (of(bench.reef.pid()), of(bench.door));
    let mut viewers = Vec::new();
    for _ in 0..IDLE_VIEWERS {
        let url = format!("{}/terminal/ws?session={id}", ws(&bench.base));
        viewers.push(session(connect(&url, Some(&bench.key)).await).await);
    }
    let after = (of(bench.reef.pid()), of(bench.door));
    let each = |before: u64, after: u64| (after.saturating_sub(before)) as f64 / IDLE_VIEWERS as f64;
    say(&format!("\n### Memory per idle viewer of a terminal, of {IDLE_VIEWERS}\n"));
    say("| control plane KiB | door KiB |");
    say("| ---: | ---: |");
    say(&format!("| {:.1} | {:.1} |", each(before.0, after.0), each(before.1, after.1)));
    // Their places must be free for the next table.
    viewers.push((first, id));
    for (socket, _) in &mut viewers {
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    }
}

async fn many(bench: &Workbench) {
    let script = format!(
        "stty raw -echo; exec perl -MTime::HiRes=time,sleep -e '\
         $| = 1; $piece = \"x\" x 4000; $began = time; while (1) {{ print $piece; $sent += 4000; \
         $wait = $began + $sent / {BYTES_PER_SECOND} - time; sleep $wait if $wait > 0 }}'"
    );
    let sockets = join_all((0..MANY).map(|_| open(bench, &script))).await;
    let pids = family(&[bench.reef.pid(), bench.door]);
    let (began, cpu) = (Instant::now(), cpu_micros(&[bench.reef.pid(), bench.door]));
    let deadline = began + Duration::from_secs(MANY_SECONDS);
    let read = join_all(sockets.into_iter().map(|mut socket| async move {
        let mut bytes = 0;
        loop {
            match tokio::time::timeout_at(deadline.into(), socket.next()).await {
                Ok(Some(Ok(Message::Binary(piece)))) => bytes += piece.len() as u64,
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return (bytes, true),
                Ok(Some(Ok(_))) => {}
                Err(_) => return (bytes, false),
            }
        }
    }))
    .await;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (cpu_micros(&[bench.reef.pid(), bench.door]) - cpu) as f64 / 1e6 / seconds;
    let bytes: u64 = read.iter().map(|(bytes, _)| bytes).sum();
    let lost = read.iter().filter(|(_, is_lost)| *is_lost).count();
    let target = BYTES_PER_SECOND as f64 * seconds * MANY as f64;
    say(&format!("\n### {MANY} terminals of one instance that write 40 KB/s each, for {MANY_SECONDS} s\n"));
    say("| of the target | disconnects | cores of control plane and door | MiB of both |");
    say("| ---: | ---: | ---: | ---: |");
    let share = bytes as f64 / target * 100.0;
    let memory = resident_kib(&pids) / 1024;
    say(&format!("| {share:.1} % | {lost} | {cpu:.2} | {memory} |"));
}

/// Opens a terminal with `command` in it.
async fn open(bench: &Workbench, command: &str) -> Socket {
    let command: String = command.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let url = format!("{}/terminal/ws?command={command}", ws(&bench.base));
    session(connect(&url, Some(&bench.key)).await).await.0
}

/// Reads the first frame; returns the terminal's id.
async fn session(mut socket: Socket) -> (Socket, String) {
    let Some(Ok(Message::Text(first))) = socket.next().await else { panic!("another first frame") };
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    (socket, first["id"].as_str().unwrap().to_owned())
}

async fn connect(url: &str, key: Option<&str>) -> Socket {
    let mut request = url.into_client_request().unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    let authority = request.uri().authority().unwrap().to_string();
    let stream = TcpStream::connect(authority).await.unwrap();
    stream.set_nodelay(true).unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

/// Reads until a frame is what is waited for.
async fn until(socket: &mut Socket, is_it: impl Fn(&str) -> bool) {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) if is_it(&String::from_utf8_lossy(&bytes)) => return,
            Message::Text(text) if is_it(&text) => return,
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

fn ws(base: &str) -> String {
    base.replacen("http", "ws", 1)
}
