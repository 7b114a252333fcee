//! A file of an instance, beside nginx that serves it and another nginx in front: both have two hops.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::say;
use crate::{
    load,
    process::{Running, cpu_micros, family},
    target::{Target, free_port, wait_for},
    workbench::Workbench,
};

const CONNECTIONS: [u32; 2] = [1, 50];
const LARGE_BYTES: u64 = 1 << 30;
const ROUNDS: usize = 3;

pub(crate) async fn run(bench: &Workbench) {
    // In the page cache, as nginx's would be.
    std::fs::write(bench.workspace.join("small.bin"), vec![b'x'; 1024]).unwrap();
    let block = vec![b'y'; 1 << 20];
    let mut large = std::fs::File::create(bench.workspace.join("large.bin")).unwrap();
    (0..LARGE_BYTES >> 20).for_each(|_| large.write_all(&block).unwrap());
    let (front, front_port) = two_nginx(bench).await;
    let nginx = |path: &str| (format!("http://127.0.0.1:{front_port}"), format!("/{path}"));
    let reef = |path: &str| (bench.base.clone(), format!("/files/content?path=/workspace/{path}"));

    say("\n### A file of 1 KiB\n");
    say("| | connections | requests/s | × nginx behind nginx | p50 µs | p99 µs |");
    say("| --- | ---: | ---: | ---: | ---: | ---: |");
    for connections in CONNECTIONS {
        let mut yardstick = None;
        for (name, (base, path)) in [("nginx behind nginx", nginx("small.bin")), ("reef", reef("small.bin"))]
        {
            let target =
                Target { name, base, token: bench.key.clone(), pids: Vec::new(), is_yardstick: false };
            let load = load::run(&target, connections, &path);
            let ratio = load.per_second / *yardstick.get_or_insert(load.per_second);
            let (rate, p50, p99) = (load.per_second, load.p50_micros, load.p99_micros);
            say(&format!("| {name} | {connections} | {rate:.0} | {ratio:.2} | {p50:.0} | {p99:.0} |"));
        }
    }

    say("\n### A file of 1 GiB, one reader, best of three\n");
    say("| | MB/s | × nginx behind nginx | CPU s |");
    say("| --- | ---: | ---: | ---: |");
    let mut yardstick = None;
    let front_pids = family(&front.iter().map(Running::pid).collect::<Vec<_>>());
    for (name, (base, path), pids) in [
        ("nginx behind nginx", nginx("large.bin"), front_pids),
        ("reef", reef("large.bin"), vec![bench.reef.pid(), bench.door]),
    ] {
        let before = cpu_micros(&pids);
        let best = (0..ROUNDS).map(|_| download(&format!("{base}{path}"), &bench.key)).min().unwrap();
        let cpu = (cpu_micros(&pids) - before) as f64 / 1e6 / ROUNDS as f64;
        let rate = LARGE_BYTES as f64 / 1e6 / best.as_secs_f64();
        let ratio = rate / *yardstick.get_or_insert(rate);
        say(&format!("| {name} | {rate:.0} | {ratio:.2} | {cpu:.2} |"));
    }
}

/// Reads an answer of [`LARGE_BYTES`] to its end, with a reader that costs as little as one can.
fn download(url: &str, key: &str) -> Duration {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let began = Instant::now();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut came = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => came += count as u64,
        }
    }
    assert!((LARGE_BYTES..LARGE_BYTES + 4096).contains(&came), "{url}: {came} bytes");
    began.elapsed()
}

/// nginx with the workspace as its root on a unix socket, and nginx in front of it.
async fn two_nginx(bench: &Workbench) -> (Vec<Running>, u16) {
    let port = free_port();
    let socket = bench.dir.join("files.sock");
    let root = bench.workspace.display();
    let behind = format!(
        "server {{ listen unix:{}; root {root}; sendfile on; tcp_nopush on; keepalive_requests 1000000; }}",
        socket.display()
    );
    let front = format!(
        "upstream files {{ server unix:{}; keepalive 256; keepalive_requests 1000000; }}
         server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000;
           location / {{ proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; }} }}",
        socket.display()
    );
    let running = vec![nginx(&bench.dir.join("behind"), &behind), nginx(&bench.dir.join("front"), &front)];
    wait_for(|| TcpStream::connect(("127.0.0.1", port)).is_ok() && socket.exists()).await;
    (running, port)
}

fn nginx(dir: &Path, servers: &str) -> Running {
    std::fs::create_dir(dir).unwrap();
    let (text, workers) = (dir.display(), std::thread::available_parallelism().unwrap());
    let conf = format!(
        "daemon off; user root; worker_processes {workers}; pid {text}/pid; error_log {text}/error.log crit;
         events {{ worker_connections 4096; }}
         http {{ access_log off; client_body_temp_path {text}; proxy_temp_path {text}; fastcgi_temp_path {text};
           uwsgi_temp_path {text}; scgi_temp_path {text}; {servers} }}"
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, conf).unwrap();
    let child = Command::new("nginx").arg("-e").arg(dir.join("error.log")).arg("-c").arg(&path).spawn();
    Running(child.expect("nginx is installed: apt-get install nginx-light"))
}
