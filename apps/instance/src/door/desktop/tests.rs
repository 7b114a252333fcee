//! The desktop as its clients see it: on a stand-in, and on a real X server.

use std::{os::unix::net::UnixListener, path::PathBuf, time::Instant};

use axum::body::Body as HttpBody;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use reef_model::SystemClock;
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};
use tower::ServiceExt;

use super::*;
use crate::{door::activity::Activity, hands::testing::TestHands, skipped::can_run, wire::work::Spawn};

struct Door {
    router: Router,
    hands: TestHands,
}

type Web = WebSocketStream<tokio::net::UnixStream>;

impl Door {
    fn with(isolation: Isolation) -> Self {
        Self::of(TestHands::start(), isolation)
    }

    fn of(hands: TestHands, isolation: Isolation) -> Self {
        let home = hands.dir.path().join("home");
        let sockets = Sockets::new(Activity::default());
        let clock = Arc::new(SystemClock);
        Self { router: router(hands.work.clone(), sockets, isolation, home, clock), hands }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.hands.dir.path().join(name)
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (StatusCode, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(HttpBody::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let (status, bytes) = self.ask(method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn input(&self, events: Value) {
        let count = events.as_array().unwrap().len();
        let (status, done) = self.json("POST", "/vnc/input", events).await;
        assert_eq!((status, &done["events"]), (StatusCode::OK, &count.into()), "{done}");
    }

    async fn picture(&self, query: &str) -> (u32, u32, Vec<u8>) {
        let (status, file) = self.ask("GET", &format!("/vnc/screenshot{query}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&file));
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    /// Waits until the terminal, which starts in the home, does what is typed into it.
    async fn terminal(&self) {
        let ready = self.path("home/ready");
        until("the shell reads", async || {
            let events =
                json!([{ "type": "click", "x": 300, "y": 200 }, { "type": "text", "text": ">ready\n" }]);
            self.input(events).await;
            ready.exists()
        })
        .await;
    }

    /// Opens a WebSocket to the door, which then serves at a socket.
    async fn view(&self, query: &str) -> Web {
        let at = self.path(&format!("door{query}.sock"));
        let listener = tokio::net::UnixListener::bind(&at).unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut request = format!("ws://door/vnc/ws{query}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
        let stream = tokio::net::UnixStream::connect(&at).await.unwrap();
        let (web, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
        web
    }
}

/// Reads binary frames until they hold `count` bytes; returns them all.
async fn read(web: &mut Web, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match web.next().await.unwrap().unwrap() {
            Message::Binary(more) => bytes.extend_from_slice(&more),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

/// Waits until `check` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        sleep(Duration::from_millis(20)).await;
    }
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let is_there = std::env::split_paths(&path).any(|dir| dir.join("Xvnc").exists());
    can_run(is_there, "the package tigervnc-standalone-server")
}

/// How many different colours there are.
fn colours(pixels: &[u8]) -> usize {
    pixels.chunks_exact(3).collect::<std::collections::HashSet<_>>().len()
}

#[tokio::test]
async fn without_a_tmp_there_is_none_and_it_says_why() {
    let door = Door::with(Isolation::Landlock);
    let (_, status) = door.json("GET", "/vnc/status", Value::Null).await;
    assert_eq!(status["state"], "unavailable");
    assert!(status["reason"].as_str().unwrap().contains("bubblewrap"), "{status}");
    for (method, path) in [("GET", "/vnc/screenshot"), ("POST", "/vnc/input")] {
        let (status, body) = door.json(method, path, json!([{ "type": "click" }])).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::CONFLICT, &"CONFLICT".into()), "{body}");
        assert_eq!(body["error"]["details"]["reason"], "desktop_unavailable");
    }
    let (status, _) = door.json("GET", "/vnc/ws", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_its_programs_there_is_none_and_it_says_what_to_install() {
    let door = Door::of(TestHands::without_programs(), Isolation::None);
    let (_, status) = door.json("GET", "/vnc/status", Value::Null).await;
    assert_eq!(status["state"], "unavailable");
    assert!(status["reason"].as_str().unwrap().contains("apt-get install"), "{status}");
    let (status, body) = door.json("GET", "/vnc/screenshot", Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::CONFLICT, &"CONFLICT".into()), "{body}");
    assert!(body["message"].as_str().unwrap().contains("tigervnc-standalone-server"), "{body}");
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let door = Door::with(Isolation::Landlock);
    for (path, code) in [
        ("/vnc/screenshot?format=jpg", 422),
        ("/vnc/screenshot?width=3", 422),
        ("/vnc/screenshot?width=x", 400),
    ] {
        assert_eq!(door.json("GET", path, Value::Null).await.0.as_u16(), code, "{path}");
    }
    let (status, body) = door.json("POST", "/vnc/input", json!([{ "type": "jump" }])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
}

#[tokio::test]
async fn shows_works_and_comes_back() {
    if !is_installed() {
        return;
    }
    let door = Door::with(Isolation::None);
    let (_, status) = door.json("GET", "/vnc/status", Value::Null).await;
    assert_eq!(status, json!({ "state": "stopped", "viewers": 0 }));
    let (width, height, _) = door.picture("").await;
    assert_eq!((width, height), (1280, 800));
    until("the terminal is drawn", async || colours(&door.picture("").await.2) > 8).await;
    let (width, height, _) = door.picture("?width=320").await;
    assert_eq!((width, height), (320, 200));
    let (_, status) = door.json("GET", "/vnc/status", Value::Null).await;
    assert_eq!(status, json!({ "state": "running", "width": 1280, "height": 800, "viewers": 0 }));

    door.terminal().await;
    door.input(json!([{ "type": "text", "text": "echo 'Hé ✓ 日本' >made\n" }])).await;
    let made = door.path("home/made");
    until("it was typed", async || std::fs::read_to_string(&made).is_ok_and(|text| !text.is_empty())).await;
    assert_eq!(std::fs::read_to_string(&made).unwrap(), "Hé ✓ 日本\n");
    let (status, body) =
        door.json("POST", "/vnc/input", json!([{ "type": "move", "x": 1280, "y": 0 }])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["error"]["details"]["fields"][0]["field"], "[0].x");

    // Its end is not the end of the desktop: another one comes up.
    let script = "for at in /proc/[0-9]*; do
        [ \"$(readlink $at/cwd)\" = \"$HOME\" ] && grep -qs ^Xvnc $at/cmdline && kill -9 ${at#/proc/} && exit 7
    done";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let fds = vec![null(), null(), null()];
    let (mut kill, _) = door.hands.work.spawn(Spawn { argv, ..Spawn::default() }, fds).await.unwrap();
    assert_eq!(kill.wait().await.unwrap().code, Some(7));
    until("its end is noticed", async || {
        door.json("GET", "/vnc/status", Value::Null).await.1["reason"].is_string()
    })
    .await;
    until("the next one is drawn", async || colours(&door.picture("").await.2) > 8).await;
}

/// Speaks RFB for a viewer, up to ServerInit.
async fn shake_hands(web: &mut Web) {
    assert_eq!(read(web, 12).await, b"RFB 003.008\n");
    for message in [&b"RFB 003.008\n"[..], &[1], &[0]] {
        web.send(Message::binary(message.to_vec())).await.unwrap();
    }
    // Security types, result, size, format, name.
    read(web, 2 + 4 + 4 + 16 + 4 + 4).await;
}

fn typed(text: &str) -> Vec<u8> {
    let key = |letter: char, is_down| {
        let keysym = if letter == '\n' { 0xff0d } else { u32::from(letter) };
        [&[4, u8::from(is_down), 0, 0][..], &keysym.to_be_bytes()].concat()
    };
    text.chars().flat_map(|letter| [key(letter, true), key(letter, false)].concat()).collect()
}

#[tokio::test]
async fn a_viewer_types_and_one_who_only_looks_does_not() {
    if !is_installed() {
        return;
    }
    let door = Door::with(Isolation::None);
    door.terminal().await;
    let (mut looking, mut typing) = (door.view("?view_only=1").await, door.view("").await);
    shake_hands(&mut looking).await;
    shake_hands(&mut typing).await;
    until("both are counted", async || door.json("GET", "/vnc/status", Value::Null).await.1["viewers"] == 2)
        .await;

    looking.send(Message::binary(typed("touch looked\n"))).await.unwrap();
    // An answer shows that what came before was taken, or was not.
    looking.send(Message::binary(vec![3, 0, 0, 0, 0, 0, 0, 1, 0, 1])).await.unwrap();
    read(&mut looking, 4 + 12 + 4).await;
    typing.send(Message::binary(typed("touch typed\n"))).await.unwrap();
    until("the viewer types", async || door.path("home/typed").exists()).await;
    assert!(!door.path("home/looked").exists());

    looking.send(Message::binary(vec![77])).await.unwrap();
    let close = loop {
        match looking.next().await.unwrap().unwrap() {
            Message::Close(close) => break close.unwrap(),
            Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(close.code), 1008);
    assert_eq!(close.reason.as_str(), "message type 77 is not known to view-only");
    drop(looking);
    typing.close(None).await.unwrap();
    while let Some(message) = typing.next().await {
        message.expect("an answer to the close frame");
    }
    until("nobody looks", async || door.json("GET", "/vnc/status", Value::Null).await.1["viewers"] == 0)
        .await;
}

/// A server that says what it is told to.
async fn client_of(says: Vec<u8>) -> io::Result<Client> {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("x");
    let listener = UnixListener::bind(&at).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, &says).unwrap();
        std::io::Read::read_to_end(&mut stream, &mut Vec::new())
    });
    let stream = std::os::unix::net::UnixStream::connect(&at).unwrap();
    Client::connect(socket::Socket::new(stream.into())?).await
}

#[tokio::test]
async fn a_server_may_say_anything() {
    let hello = |width: u16, height: u16, more: &[u8]| {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        [b"RFB 003.008\n\x01\x01\0\0\0\0", &size[..], &[0; 16], &[0, 0, 0, 1], b"x", more].concat()
    };
    let rectangle = |x: u8, width: u8, encoding: i32| {
        [&[0, x, 0, 0, 0, width, 0, 1][..], &encoding.to_be_bytes(), &[1, 2, 3, 4].repeat(width.into())]
            .concat()
    };
    let update = |rectangles: &[Vec<u8>]| {
        [&[0, 0, 0, u8::try_from(rectangles.len()).unwrap()][..], &rectangles.concat()].concat()
    };
    for bad in [
        b"RFB 003.003\n".to_vec(),
        b"RFB 003.008\n\x01\x02".to_vec(),
        b"RFB 003.008\n\x01\x01\0\0\0\x01".to_vec(),
        b"SSH-2.0-OpenSSH".to_vec(),
    ] {
        assert!(client_of(bad.clone()).await.is_err(), "{bad:?}");
    }
    let said = |says: Vec<u8>| async { client_of(says).await.unwrap().picture().await };
    // A bell, cut text, half of the picture, another size, and the picture.
    let talk = [
        vec![2],
        [&[3, 0, 0, 0, 0, 0, 0, 3][..], b"cut"].concat(),
        update(&[rectangle(0, 2, 0)]),
        update(&[[&[0, 0, 0, 0, 0, 3, 0, 1][..], &(-223i32).to_be_bytes()].concat()]),
        update(&[rectangle(0, 1, 0), rectangle(1, 2, 0)]),
    ];
    let picture = said(hello(4, 1, &talk.concat())).await.unwrap();
    assert_eq!(picture, client::Picture { width: 3, height: 1, pixels: [1, 2, 3].repeat(3) });
    for bad in [
        hello(u16::MAX, u16::MAX, &[]),
        hello(0, 5, &[]),
        hello(4, 1, &update(&[rectangle(3, 2, 0)])),
        hello(4, 1, &update(&[rectangle(0, 4, 7)])),
        hello(4, 1, &[9]),
        hello(4, 1, &[3, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(said(bad.clone()).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
    }
}
