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
        assert!(head.contains(&format!("x-reef-socket: {SOCKET}\r\n")), "{head}");
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
async fn a_tunnel_that_is_cut_says_why_first() {
    for is_revoked in [true, false] {
        let (heard, mut asked) = mpsc::unbounded_channel();
        // The first connection is the socket, on the second one the door is asked to end it.
        let setup = Setup::new(move |mut door| {
            let heard = heard.clone();
            async move {
                if door.number == 1 {
                    door.head().await;
                    door.say(SWITCH).await;
                    std::future::pending::<()>().await;
                }
                let head = door.head().await;
                let mut body = vec![0; content_length(&head)];
                door.io.read_exact(&mut body).await.unwrap();
                heard.send((head, String::from_utf8(body).unwrap())).unwrap();
                door.say("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        });
        let mut socket = open(&setup).await;
        let code = if is_revoked {
            setup.revoked.cancel();
            "4401"
        } else {
            setup.pipe.hang_up();
            "1012"
        };
        let (head, body) = asked.recv().await.unwrap();
        assert!(head.starts_with(&format!("POST /sockets/{SOCKET}/close HTTP/1.1\r\n")), "{head}");
        assert!(head.to_lowercase().contains("authorization: bearer door-token\r\n"), "{head}");
        assert!(body.starts_with(&format!("{{\"code\":{code},\"reason\":\"")), "{body}");
        // This door does nothing about it.
        let end = tokio::time::timeout(Duration::from_secs(1), socket.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)));
        setup.pipe.close().await;
    }
}

fn content_length(head: &str) -> usize {
    let lower = head.to_lowercase();
    let (_, rest) = lower.split_once("content-length: ").unwrap();
    rest.split("\r\n").next().unwrap().parse().unwrap()
}
