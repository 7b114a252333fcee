//! Ordinary requests and streams.

use super::*;

#[tokio::test]
async fn passes_the_heads_filtered_and_the_bodies_whole() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut door| {
        let heads = heads.clone();
        async move {
            heads.send(door.head().await).unwrap();
            let mut body = [0; 5];
            door.io.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"hello");
            door.say(
                "HTTP/1.1 201 Created\r\nSet-Cookie: a=b\r\nContent-Type: text/html\r\nETag: \"1\"\r\n\
                 Content-Length: 3\r\n\r\n<b>",
            )
            .await;
        }
    });
    let request = Request::post("/chat?ticket=secret&wait=1")
        .header("authorization", "Bearer sk_live_secret")
        .header("cookie", "reef_session=secret")
        .header("x-forwarded-for", "10.0.0.1")
        .header("content-type", "application/json")
        .body(Full::from("hello"))
        .unwrap();
    let response = setup.request(request).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["etag"], "\"1\"");
    assert_eq!(response.headers()["content-disposition"], "attachment");
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(text(response).await, "<b>");

    let head = seen.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("post /chat?wait=1 http/1.1\r\n"), "{head}");
    for wanted in [
        "authorization: bearer door-token\r\n",
        "x-reef-caller: usr_a\r\n",
        "x-request-id: req_a\r\n",
        "host: door\r\n",
        "content-length: 5\r\n",
        "content-type: application/json\r\n",
    ] {
        assert!(head.contains(wanted), "{wanted} in {head}");
    }
    assert!(!head.contains("secret") && !head.contains("10.0.0.1"), "{head}");
}

#[tokio::test]
async fn a_stream_arrives_as_it_is_made_and_connections_are_reused() {
    let setup = Setup::new(|mut door| async move {
        while door.head().await.starts_with("GET") {
            door.say(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await;
            for _ in 0..3 {
                door.say("3\r\n:a\n\r\n").await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            door.say("0\r\n\r\n").await;
        }
    });
    for _ in 0..3 {
        let mut body = setup.get("/stream").await.into_body();
        let mut events = 0;
        while let Some(frame) = body.frame().await {
            assert_eq!(frame.unwrap().into_data().unwrap(), ":a\n");
            events += 1;
        }
        assert_eq!(events, 3);
    }
    let mut dialed = setup.dialed;
    assert_eq!(dialed.recv().await.unwrap(), "1 3");
    assert!(dialed.try_recv().is_err(), "one connection served all");
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_replaced_unseen() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        door.say(HELLO).await;
        // The door is gone after one answer, as after a restart.
    });
    for _ in 0..5 {
        assert_eq!(setup.get("/status").await.status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_a_while() {
    let (left, mut seen) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut door| {
        let left = left.clone();
        async move {
            door.head().await;
            door.say(HELLO).await;
            assert_eq!(door.head().await, "");
            left.send(()).unwrap();
        }
    });
    assert_eq!(text(setup.get("/status").await).await, "{}");
    setup.pipe.reap();
    assert!(seen.try_recv().is_err(), "it was used just now");
    tokio::time::advance(Duration::from_secs(31)).await;
    setup.pipe.reap();
    seen.recv().await.unwrap();
}

#[tokio::test]
async fn a_request_that_was_taken_is_not_repeated() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        if door.number == 1 {
            door.say(HELLO).await;
            door.head().await;
        }
    });
    assert_eq!(setup.get("/chat").await.status(), StatusCode::OK);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/chat").body(Full::from("{}")).unwrap();
        outcomes.push(text(setup.request(request).await).await);
    }
    assert_eq!(outcomes, ["upstream", "upstream"]);
}

#[tokio::test]
async fn errors_say_what_failed() {
    assert_eq!(text(Setup::with(None).get("/").await).await, "unreachable");
    let closes = Setup::new(|mut door| async move {
        door.head().await;
    });
    assert_eq!(text(closes.get("/").await).await, "upstream");
    let babbles = Setup::new(|mut door| async move {
        door.head().await;
        door.say("SSH-2.0-OpenSSH_9.2\r\n").await;
    });
    assert_eq!(text(babbles.get("/").await).await, "upstream");
    let switches = Setup::new(|mut door| async move {
        door.head().await;
        door.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        door.head().await;
    });
    assert_ne!(switches.get("/").await.status(), StatusCode::SWITCHING_PROTOCOLS);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_comes_times_out() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        std::future::pending::<()>().await;
    });
    assert_eq!(text(setup.get("/").await).await, "head timeout");
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_a_slow_door_but_a_stalled_one_is_named() {
    let setup = Setup::new(|mut door| async move {
        door.head().await;
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut door.io, &mut sink).await;
    });
    let mut client = setup.connect();
    client.write_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    // Six times as long as a head may take.
    for _ in 0..20 {
        client.write_all(b"more").await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().ends_with("upload stalled"));
}

fn streaming_door() -> Setup {
    Setup::new(|mut door| async move {
        door.head().await;
        door.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        door.say("3\r\n:a\n\r\n").await;
        std::future::pending::<()>().await;
    })
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_cut_not_ended() {
    let setup = streaming_door();
    let mut body = setup.get("/").await.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(body.frame().await.unwrap().is_err(), "a cut stream must not look whole");
}

#[tokio::test]
async fn revocation_cuts_a_stream_at_once() {
    let setup = streaming_door();
    let mut body = setup.get("/").await.into_body();
    body.frame().await.unwrap().unwrap();
    setup.revoked.cancel();
    let cut = tokio::time::timeout(Duration::from_secs(1), body.frame()).await.unwrap();
    assert!(cut.unwrap().is_err());
    assert_eq!(text(setup.get("/").await).await, "revoked");
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_by_the_door() {
    let (left, mut seen) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut door| {
        let left = left.clone();
        async move {
            door.head().await;
            door.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
            let mut rest = Vec::new();
            let _ = door.io.read_to_end(&mut rest).await;
            left.send(()).unwrap();
        }
    });
    let mut client = setup.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 10];
    client.read_exact(&mut some).await.unwrap();
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), seen.recv()).await.unwrap().unwrap();
}
