use futures_util::future::join_all;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::{
    Frame,
    coding::{CloseCode, Data, OpCode},
};

use super::*;

fn query(command: &str) -> String {
    let encoded: String = command.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("command={encoded}")
}

fn exit(controls: &[TerminalOutput]) -> Option<(Option<i32>, Option<&str>)> {
    controls.iter().find_map(|control| match control {
        TerminalOutput::Exit { code, signal } => Some((*code, signal.as_deref())),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_on_a_terminal() {
    let door = Door::start();
    let mut client = door.open("cols=100&rows=30").await;
    assert!(client.id.starts_with("term_"));
    assert_eq!((client.offset, client.replay), (0, 0));
    client.send(b"stty size; echo $TERM $((6*7)) \xc3\xa9; tty | cut -c1-5\r").await;
    client.see("30 100").await;
    client.see("xterm-256color 42 é").await;
    client.see("/dev/").await;
    // The process is told of the new size.
    client.send(b"trap 'echo now $(stty size)' WINCH; echo tra''pped\r").await;
    client.see("trapped").await;
    client.say(r#"{"type":"resize","cols":70,"rows":20}"#).await;
    client.see("now 20 70").await;
    let (_, list) = door.ask("GET", "/terminal/sessions").await;
    assert_eq!((&list[0]["cols"], &list[0]["viewers"]), (&70.into(), &1.into()), "{list}");
    assert_eq!((&list[0]["id"], &list[0]["exit"]), (&client.id.clone().into(), &Value::Null));
    client.send(b"exit 9\r").await;
    let (controls, close) = client.rest().await;
    assert_eq!(exit(&controls), Some((Some(9), None)));
    assert_eq!(u16::from(close.unwrap().code), 1000);
    // Who missed the end can still see it.
    let mut late = door.open(&format!("session={}", client.id)).await;
    let (controls, _) = late.rest().await;
    assert_eq!(exit(&controls), Some((Some(9), None)));
    assert!(late.text().contains("now 20 70"));
    let younger = door.open("").await;
    let (_, list) = door.ask("GET", "/terminal/sessions").await;
    assert_eq!(
        (&list[0]["exit"]["code"], &list[1]["id"]),
        (&9.into(), &younger.id.clone().into()),
        "oldest first"
    );
    door.ask("DELETE", &format!("/terminal/sessions/{}", younger.id)).await;
    // The seat is free a moment after the end is told.
    until("a free seat", || door.terminals.terminals.available_permits() == MAX_TERMINALS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_in_one_terminal_does_not_hold_up_another() {
    let door = Door::start();
    let mut flood = door.open(&query("exec yes")).await;
    let mut client = door.open("").await;
    flood.see("y\r\ny").await;
    let mut flooding = tokio::spawn(async move {
        loop {
            if let Seen::Closed(frame) = flood.next().await {
                return frame;
            }
            flood.output.clear();
        }
    });
    for number in 0..20 {
        client.send(format!("echo an''swer {number}\r").as_bytes()).await;
        let answer = format!("answer {number}\r\n");
        tokio::select! {
            () = client.see(&answer) => {}
            frame = &mut flooding => panic!("the flood has ended: {frame:?}"),
        }
    }
    flooding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_foreground() {
    let door = Door::start();
    let mut client = door.open("").await;
    client.send(b"sleep 1234.5\r").await;
    let shell_has_child = || {
        let stats = std::fs::read_dir("/proc").unwrap().flatten();
        stats
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
            .any(|line| line == "sleep\x001234.5\x00")
    };
    until("the sleep", shell_has_child).await;
    client.say(r#"{"type":"signal","name":"INT"}"#).await;
    client.send(b"echo sta''tus $?\r").await;
    client.see("status 130").await;
    let mut other = door.open(&query("echo ready; exec sleep 1000")).await;
    other.see("ready").await;
    other.say(r#"{"type":"signal","name":"SIGTERM"}"#).await;
    let (controls, _) = other.rest().await;
    assert_eq!(exit(&controls), Some((None, Some("SIGTERM"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_control_frame_is_answered_and_too_much_ends_the_socket() {
    let door = Door::start();
    let mut client = door.open("").await;
    for frame in ["ls\r", "{}", r#"{"type":"resize","cols":0,"rows":1}"#, r#"{"type":"later"}"#] {
        client.say(frame).await;
        loop {
            match client.next().await {
                Seen::Control(TerminalOutput::Error { .. }) => break,
                Seen::Output => {}
                other => panic!("{other:?}"),
            }
        }
    }
    client.send(b"echo go''es on\r").await;
    client.see("goes on").await;
    // Each part is small enough, the whole is not.
    for (kind, is_last) in [(Data::Binary, false), (Data::Continue, true)] {
        let part = Frame::message(vec![b'x'; 600_000], OpCode::Data(kind), is_last);
        client.socket.send(Message::Frame(part)).await.unwrap();
    }
    let (_, close) = client.rest().await;
    assert_eq!(u16::from(close.unwrap().code), 1009);
    let mut again = door.open(&format!("session={}", client.id)).await;
    again.see("goes on").await;
}

/// What the lines of [`COUNT`] look like on a terminal.
fn counted() -> Vec<u8> {
    (1..=40_000).flat_map(|number| format!("{number} é€\r\n").into_bytes()).collect()
}

/// More than the ring keeps, in bursts.
const COUNT: &str = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo \"$i é€\"; [ $((i % 5000)) = 0 ] && sleep 0.05; done; read -r line";

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// However often the socket is lost: what a viewer sees is the output from its offset on, without a gap.
    #[test]
    fn viewers_that_come_again_miss_nothing(frames in prop::collection::vec(1_usize..40, 1..6)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let door = Door::start();
            let expected = counted();
            let mut client = door.open(&query(COUNT)).await;
            let id = client.id.clone();
            for frames in frames {
                for _ in 0..frames {
                    // The last line may be there already.
                    if client.offset as usize + client.output.len() == expected.len() {
                        break;
                    }
                    client.next().await;
                }
                let seen = client.offset as usize;
                assert!(expected[seen..].starts_with(&client.output), "at {seen}");
                client = door.open(&format!("session={id}")).await;
                assert!(client.replay <= 256 << 10);
            }
            client.see("40000 é€\r\n").await;
            assert_eq!(&client.output, &expected[client.offset as usize..]);
            client.send(b"\r").await;
            let (controls, _) = client.rest().await;
            assert_eq!(exit(&controls), Some((Some(0), None)));
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_see_the_same() {
    let door = Door::start();
    let first = door.open(&query(COUNT)).await;
    let query = format!("session={}", first.id);
    let mut clients = join_all((0..3).map(|_| door.open(&query))).await;
    clients.push(first);
    join_all(clients.iter_mut().map(|client| client.see("40000 é€\r\n"))).await;
    let expected = counted();
    for client in &clients {
        assert_eq!(&client.output, &expected[client.offset as usize..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_waits_for_its_only_viewer() {
    let door = Door::start();
    let mut client = door.open(&query("exec yes 0123456789")).await;
    client.see("0123456789").await;
    let session = door.terminals.find(&client.id).unwrap();
    // It stalls when the socket and the lead are full.
    let mut before = session.written();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = session.written();
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 4 << 20, "{before}");
    // It goes on with the viewer, without a gap, and can be interrupted.
    let most = client.output.len() + (2 << 20);
    while client.output.len() < most {
        client.next().await;
    }
    let line = b"0123456789\r\n";
    assert!(client.output.chunks(line.len()).all(|chunk| line.starts_with(chunk)));
    client.say(r#"{"type":"signal","name":"INT"}"#).await;
    let (controls, _) = client.rest().await;
    assert_eq!(exit(&controls), Some((None, Some("SIGINT"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_stalls_is_cut_and_the_others_go_on() {
    let door = Door::start();
    let mut client = door.open(&query("exec yes 0123456789")).await;
    let mut stalled = door.open(&format!("session={}", client.id)).await;
    while client.output.len() < 16 << 20 {
        client.next().await;
    }
    let line = b"0123456789\r\n";
    assert!(client.output.chunks(line.len()).all(|chunk| line.starts_with(chunk)));
    // Meanwhile only the first one is let through.
    let reading = async {
        loop {
            client.next().await;
        }
    };
    let (_, close) = tokio::select! {
        rest = stalled.rest() => rest,
        () = reading => unreachable!(),
    };
    let close = close.unwrap();
    assert_eq!(u16::from(close.code), 1013);
    assert!(close.reason.contains("session="));
    assert!(
        stalled.output.chunks(line.len()).skip(1).all(|chunk| line.starts_with(chunk)) || stalled.offset > 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looks_at_goes_on_slowly() {
    let door = Door::start();
    let client = door.open(&query("exec yes")).await;
    let session = door.terminals.find(&client.id).unwrap();
    drop(client);
    until("no viewer", || session.describe().viewers == 0).await;
    let before = session.written();
    let began = std::time::Instant::now();
    until("it goes on", || session.written() - before >= 2 << 20).await;
    let rate = (session.written() - before) as f64 / began.elapsed().as_secs_f64();
    assert!(rate < 1_500_000.0, "{rate}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_paste_arrives_whole_while_signals_pass() {
    let door = Door::start();
    let mut client = door
        .open(&query("stty raw -echo; echo ready; sleep 0.5; head -c 2000000 | md5sum; sleep 1000"))
        .await;
    client.see("ready").await;
    let text: Vec<u8> = (0..2_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    for piece in text.chunks(100_000) {
        client.send(piece).await;
    }
    let (_, sum) = door.exec(serde_json::json!({
        "command": "python3 -c 'import sys; sys.stdout.write(\"\".join(chr(97 + i % 23) for i in range(2000000)))' | md5sum",
    })).await;
    client.see(&sum["stdout"].as_str().unwrap()[..32]).await;
    client.say(r#"{"type":"signal","name":"KILL"}"#).await;
    let (controls, _) = client.rest().await;
    assert_eq!(exit(&controls).unwrap().1, Some("SIGKILL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_do_not_mix_and_there_is_a_limit() {
    let door = Door::start();
    let mut clients = join_all((0..20).map(|_| door.open(""))).await;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("echo this is $(({number}+1000)) and no ''other\r").as_bytes()).await;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.see(&format!("this is {} and no other", number + 1000)).await;
        assert_eq!(client.text().matches("and no other").count(), 1);
    }
    let _rest =
        door.terminals.terminals.clone().acquire_many_owned((MAX_TERMINALS - 20) as u32).await.unwrap();
    let stream = UnixStream::connect(door.hands.dir.path().join("door.sock")).await.unwrap();
    let refused = tokio_tungstenite::client_async("ws://door/terminal/ws", stream).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("one too many") };
    assert_eq!(response.status(), 429);
    let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    assert_eq!(
        (&body["error"]["code"], &body["error"]["details"]["limit"]),
        (&"QUOTA_EXCEEDED".into(), &64.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_ends_the_whole_tree() {
    let door = Door::start();
    let mut client =
        door.open(&query("setsid nohup sh -c 'echo $$ > pid; exec sleep 1000' & sleep 1000")).await;
    let pid = pid_in(door.path("pid")).await;
    let path = format!("/terminal/sessions/{}", client.id);
    assert_eq!(door.ask("DELETE", &path).await.0, StatusCode::NO_CONTENT);
    gone(&pid).await;
    let (controls, close) = client.rest().await;
    assert_eq!((exit(&controls), u16::from(close.unwrap().code)), (Some((None, Some("SIGKILL"))), 1000));
    for path in [path.as_str(), "/terminal/sessions/term_0", "/terminal/sessions/x"] {
        let (status, body) = door.ask("DELETE", path).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &"NOT_FOUND".into()));
    }
    assert_eq!(door.ask("GET", "/terminal/sessions").await.1, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_outlives_its_socket_until_it_is_idle_for_too_long() {
    let door = Door::start_with(Duration::from_millis(400));
    let mut client = door.open("").await;
    let session = door.terminals.find(&client.id).unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(session.end().is_none(), "somebody looks at it");
    client.send(b"A=5\r").await;
    client.see("A=5").await;
    drop(client);
    let mut client = door.open(&format!("session={}", session.id)).await;
    client.send(b"echo is $A\r").await;
    client.see("is 5").await;
    drop(client);
    until("the end", || session.end().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_closed_with_a_reason() {
    let door = Door::start();
    let mut client = door.open(&query("exec yes")).await;
    // Also one that does not read.
    door.sockets
        .close_all(&reef_door::CloseReason { code: 4401, reason: "this credential was revoked".into() });
    let (_, close) = client.rest().await;
    let close = close.unwrap();
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4401, "this credential was revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_of_the_peer_is_answered() {
    let door = Door::start();
    let mut client = door.open(&query("exec sleep 1000")).await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.socket.send(Message::Close(Some(goodbye.clone()))).await.unwrap();
    let (_, answer) = client.rest().await;
    assert_eq!(answer, Some(goodbye));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_make_no_sense_are_refused() {
    let door = Door::start();
    let (status, body) = door.ask("GET", "/terminal/ws").await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &"INVALID_REQUEST".into()));
    for (query, status) in [
        ("cols=0", 422),
        ("cols=x", 400),
        ("rows=1001", 422),
        ("session=term_0", 404),
        ("command=%20", 422),
        ("command=a%00b", 422),
    ] {
        let stream = UnixStream::connect(door.hands.dir.path().join("door.sock")).await.unwrap();
        let refused = tokio_tungstenite::client_async(format!("ws://door/terminal/ws?{query}"), stream).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("{query}") };
        assert_eq!(response.status(), status, "{query}");
    }
}
