//! Many small files and one large one, through the control plane: what goes up comes down, in constant memory.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use nix::unistd::Pid;
use reqwest::{RequestBuilder, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::platform::{Client, Platform, doors_below};

const SMALL_FILES: usize = 1_000;
const AT_ONCE: usize = 16;
const CHUNK: usize = 1 << 20;
/// Of the large file; debug builds move some hundred MiB a second.
const CHUNKS: u64 = 5 << 10;
/// What a process may grow by while the large file passes.
const GROWTH_KIB: u64 = 64 << 10;

fn content_url(client: &Client, id: &str, path: &str) -> String {
    format!("{}/api/instances/{id}/files/content?path={path}&parents=true", client.base)
}

/// A block that no compression shortens; stamped with its number in every page, it is unlike all others.
fn chunk(block: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = block.to_vec();
    bytes.chunks_mut(4096).for_each(|page| page[..8].copy_from_slice(&number.to_le_bytes()));
    bytes
}

fn block() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(CHUNK / 8).flatten().collect()
}

/// Has the kernel forget how much memory a process had at most (proc_pid_clear_refs(5)), but for what it has now.
fn forget_peak(pid: Pid) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Returns how much memory a process had at most since then.
fn peak_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Sends a request, later where the answer says so.
async fn send(request: impl Fn() -> RequestBuilder) -> Response {
    loop {
        let response = request().send().await.unwrap();
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return response;
        }
        let seconds = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn small_files(client: &Client, id: &str) {
    let each = stream::iter(0..SMALL_FILES).map(async |number| {
        let url = content_url(client, id, &format!("/workspace/small/{}/{number}.txt", number % 10));
        let body = format!("file {number}\n").repeat(1 + number % 50);
        let put = send(|| client.http.put(&url).bearer_auth(&client.key).body(body.clone())).await;
        assert!(put.status().is_success(), "{number}: {}", put.text().await.unwrap());
        let got = send(|| client.http.get(&url).bearer_auth(&client.key)).await;
        assert_eq!(got.text().await.unwrap(), body, "{number}");
    });
    each.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let url =
        format!("{}/api/instances/{id}/files?path=/workspace/small&recursive=true&limit=5000", client.base);
    let list = send(|| client.http.get(&url).bearer_auth(&client.key)).await;
    let list: serde_json::Value = list.json().await.unwrap();
    let files = list.as_array().unwrap().iter().filter(|entry| entry["type"] == "file").count();
    assert_eq!(files, SMALL_FILES);
}

async fn large_file(client: &Client, id: &str, pids: &[Pid]) {
    pids.iter().for_each(|pid| forget_peak(*pid));
    let before: Vec<u64> = pids.iter().map(|pid| peak_kib(*pid)).collect();
    let url = content_url(client, id, "/workspace/large.bin");
    let block = Arc::new(block());
    let put = send(|| {
        let source = block.clone();
        let chunks =
            stream::iter(0..CHUNKS).map(move |number| Ok::<_, std::io::Error>(chunk(&source, number)));
        client.http.put(&url).bearer_auth(&client.key).body(reqwest::Body::wrap_stream(chunks))
    });
    let put = put.await;
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    let got = send(|| client.http.get(&url).bearer_auth(&client.key)).await;
    assert_eq!(got.headers()["content-length"].to_str().unwrap(), (CHUNKS * CHUNK as u64).to_string());
    let (mut came, mut bytes) = (Sha256::new(), got.bytes_stream());
    while let Some(piece) = bytes.next().await {
        came.update(piece.unwrap());
    }
    let mut sent = Sha256::new();
    (0..CHUNKS).for_each(|number| sent.update(chunk(&block, number)));
    assert!(came.finalize() == sent.finalize(), "the checksums are the same");
    for (pid, before) in pids.iter().zip(before) {
        let grown = peak_kib(*pid) - before;
        assert!(grown < GROWTH_KIB, "process {pid} grew by {grown} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_files_in_bulk() {
    let platform = Platform::start(&[]).await;
    let client = platform.operator().await;
    let id = client.instance().await;
    small_files(&client, &id).await;
    let mut pids = doors_below(&platform.data_dir());
    pids.push(platform.pid());
    let limit = Duration::from_secs(240);
    tokio::time::timeout(limit, large_file(&client, &id, &pids)).await.expect("the large file in time");
}
