//! `vncdotool`, as it comes, through a shim from TCP to the desktop's WebSocket.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

const TRIES: usize = 6;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Runs it with these words over a socket of `connect`; it must succeed.
///
/// It hangs now and then, also without anything between it and Xvnc: an update that says only that the server knows other
/// keys answers its request, and it waits for the picture without asking again. So it has some tries.
pub(crate) async fn vncdotool(connect: impl AsyncFn() -> Socket, words: &[&str]) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/clients/bin/vncdotool");
    assert!(program.exists(), "type infra/setup/clients.sh");
    let mut said = String::new();
    for _ in 0..TRIES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("127.0.0.1::{}", listener.local_addr().unwrap().port());
        let socket = connect().await;
        let shim = tokio::spawn(async move { shim(listener.accept().await.unwrap().0, socket).await });
        let output = Command::new(&program).args(["--timeout", "10", "-s", &server]).args(words).output();
        let output = output.await.unwrap();
        shim.await.unwrap();
        if output.status.success() {
            return;
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    panic!("{said}");
}

async fn shim(client: TcpStream, socket: Socket) {
    let (mut reader, mut writer) = client.into_split();
    let (mut sink, mut stream) = socket.split();
    let up = async {
        let mut bytes = vec![0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut bytes).await {
            sink.send(Message::binary(bytes[..count].to_vec())).await.unwrap();
        }
    };
    let down = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message
                && writer.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
