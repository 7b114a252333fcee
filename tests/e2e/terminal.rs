//! A terminal as another program has it: Python's `websockets` in front of vim and htop.

use std::path::Path;

use crate::platform::Platform;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_process_terminal_for_python() {
    let platform = Platform::start(&[]).await;
    let client = platform.operator().await;
    let id = client.instance().await;
    let url = format!("{}/api/instances/{id}", client.base.replacen("http", "ws", 1));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/terminal-client.py");
    // Debian's, which has the packages that `make test` installs.
    let mut python = tokio::process::Command::new("/usr/bin/python3");
    let output = python.arg(script).args([&url, &client.key]).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out.trim(), "all well", "{err}");
}
