//! WebSocket handshakes and what follows.

use super::*;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                      Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: binary\r\nSet-Cookie: a=b\r\n\r\n";

fn handshake() -> Request<Full<Bytes>> {
    Request::get("/terminal/ws")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "reef.bearer.sk_live_secret, binary")
        .body(Full::default())
        .unwrap()
}

fn echoing_door() -> Setup {
    Setup::new(|mut door| async move {
        let head = door.head().await.to_lowercase();
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-protocol: binary\r\n"), "{head}");
        door.say(SWITCH).await;
        let (mut read, mut write) = tokio::io::split(door.io);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
}

async fn open(setup: &Setup) -> TokioIo<hyper::upgrade::Upgraded> {
    let mut response = setup.request(handshake()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
    assert!(!response.headers().contains_key("set-cookie"));
    TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap())
}

#[tokio::test]
async fn bytes_pass_both_ways_until_either_end_closes() {
    let setup = echoing_door();
    let mut socket = open(&setup).await;
    for size in [1, 1_000, 40_000] {
        let sent = vec![7u8; size];
        socket.write_all(&sent).await.unwrap();
        let mut got = vec![0; size];
        socket.read_exact(&mut got).await.unwrap();
        assert!(got == sent);
    }
    assert_eq!(setup.pipe.open_tunnels(), 1);
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
    tokio::time::timeout(Duration::from_secs(5), setup.pipe.close()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_stays_a_refusal() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        door.say("HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            .await;
    });
    let response = setup.request(handshake()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response).await, "{}");
    assert_eq!(setup.pipe.open_tunnels(), 0);
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        door.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n").await;
        door.head().await;
    });
    assert_eq!(text(setup.request(handshake()).await).await, "protocol");
}

#[tokio::test]
async fn revocation_and_closing_cut_tunnels() {
    for is_revoked in [true, false] {
        let setup = echoing_door();
        let mut socket = open(&setup).await;
        if is_revoked {
            setup.revoked.cancel();
        } else {
            setup.pipe.close().await;
        }
        let end = tokio::time::timeout(Duration::from_secs(1), socket.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)));
    }
}
