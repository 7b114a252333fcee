//! Files, commands, terminals and the desktop of a real instance, through the control plane, as a client has them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message, client::IntoClientRequest, protocol::frame::coding::CloseCode,
};

use crate::{
    platform::{Client, Platform},
    vnc::vncdotool,
};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

const PATIENCE: Duration = Duration::from_secs(20);

/// One instance, and the key that it is used with.
struct Workbench {
    client: Client,
    id: String,
}

impl Workbench {
    fn path(&self, rest: &str) -> String {
        format!("/api/instances/{}{rest}", self.id)
    }

    fn request(&self, method: &str, rest: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.client.base, self.path(rest));
        self.client.http.request(method.parse().unwrap(), url).bearer_auth(&self.client.key)
    }

    async fn call(&self, method: &str, rest: &str, body: Option<Value>) -> (u16, Value) {
        self.client.call(method, &self.path(rest), body).await
    }

    async fn exec(&self, body: Value) -> Value {
        let (status, result) = self.call("POST", "/terminal/exec", Some(body)).await;
        assert_eq!(status, 200, "{result}");
        result
    }

    async fn socket(&self, rest: &str, key: &str) -> Socket {
        let url = format!("{}{}", self.client.base.replacen("http", "ws", 1), self.path(rest));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        tokio_tungstenite::connect_async(request).await.expect("a handshake").0
    }

    async fn files(&self) {
        let bytes: Vec<u8> =
            (0..3_000_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
        let put = self
            .request("PUT", "/files/content?path=/workspace/data.bin")
            .body(bytes.clone())
            .send()
            .await
            .unwrap();
        assert!(put.status().is_success(), "{}", put.text().await.unwrap());
        let got = self.request("GET", "/files/content?path=/workspace/data.bin").send().await.unwrap();
        assert_eq!(got.status(), StatusCode::OK);
        assert_eq!(
            got.headers()["content-disposition"].to_str().unwrap().split(';').next(),
            Some("attachment")
        );
        let etag = got.headers()["etag"].clone();
        assert!(got.bytes().await.unwrap() == bytes, "what was written is read");
        let part = self
            .request("GET", "/files/content?path=/workspace/data.bin")
            .header("range", "bytes=1000-1999")
            .send()
            .await
            .unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert!(part.bytes().await.unwrap() == bytes[1000..2000]);
        let same = self
            .request("GET", "/files/content?path=/workspace/data.bin")
            .header("if-none-match", etag)
            .send()
            .await
            .unwrap();
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);

        let body = json!({"path": "/workspace/a/b.txt", "content": "käse\n"});
        let (status, written) = self.call("POST", "/files/write", Some(body)).await;
        assert_eq!(status, 201, "{written}");
        let (status, read) = self.call("GET", "/files/read?path=/workspace/a/b.txt", None).await;
        assert_eq!((status, &read["content"]), (200, &json!("käse\n")), "{read}");
        // The agent's processes and the API see the same files, and own them alike.
        let seen =
            self.exec(json!({"command": "cat /workspace/a/b.txt && echo more >> /workspace/a/b.txt"})).await;
        assert_eq!((&seen["exit_code"], &seen["stdout"]), (&json!(0), &json!("käse\n")), "{seen}");

        let archive =
            self.request("GET", "/files/archive?path=/workspace/a&format=tar.gz").send().await.unwrap();
        assert_eq!(archive.status(), StatusCode::OK);
        let archive = archive.bytes().await.unwrap();
        let (status, _) = self.call("POST", "/files/mkdir", Some(json!({"path": "/workspace/out"}))).await;
        assert!(status < 300);
        let extract =
            self.request("POST", "/files/archive?path=/workspace/out").body(archive).send().await.unwrap();
        assert!(extract.status().is_success(), "{}", extract.text().await.unwrap());
        let found = self.exec(json!({"command": "find /workspace/out -name b.txt | xargs cat"})).await;
        assert_eq!(found["stdout"], "käse\nmore\n", "{found}");
        let (status, matches) = self.call("GET", "/files/search?path=/workspace&query=more", None).await;
        assert_eq!((status, matches["matches"].as_array().map(Vec::len)), (200, Some(2)), "{matches}");

        for path in ["/etc/shadow", "/workspace/../etc/passwd", "/proc/self/environ"] {
            let (status, refused) = self.call("GET", &format!("/files/read?path={path}"), None).await;
            assert!((400..500).contains(&status), "{path}: {status} {refused}");
        }
    }

    async fn commands(&self) {
        let ended = self.exec(json!({"command": "echo out; echo err >&2; exit 3"})).await;
        assert_eq!(
            (&ended["exit_code"], &ended["stdout"], &ended["stderr"], &ended["timed_out"]),
            (&json!(3), &json!("out\n"), &json!("err\n"), &json!(false))
        );
        let version = self.exec(json!({"argv": ["openclaw", "--version"], "timeout_ms": 120_000})).await;
        assert_eq!(version["exit_code"], 0, "the instance's own OpenClaw is in reach: {version}");
        let late = self.exec(json!({"command": "setsid sleep 3131 & sleep 3131", "timeout_ms": 500})).await;
        assert_eq!((&late["timed_out"], &late["exit_code"]), (&json!(true), &Value::Null), "{late}");
        let left = self.exec(json!({"command": "pgrep -cf 'sleep 313[1]'"})).await;
        assert_eq!(left["stdout"], "0\n", "daemons die with their tree: {left}");
    }

    async fn terminal(&self) {
        let (_, minted) = self
            .client
            .call_as_person("POST", "/api/keys", json!({"name": "terminal", "scopes": ["terminal"]}))
            .await;
        let key = minted["secret"].as_str().expect("a secret");
        let mut socket = self.socket("/terminal/ws?cols=90&rows=20", key).await;
        let first = text_frame(&mut socket).await;
        assert_eq!((&first["type"], &first["cols"]), (&json!("session"), &json!(90)), "{first}");
        socket.send(Message::binary(&b"stty size; echo $((40+2))-there\r"[..])).await.unwrap();
        let seen = read_until(&mut socket, "42-there").await;
        assert!(seen.contains("20 90"), "{seen:?}");
        socket.send(Message::text(r#"{"type":"resize","cols":70,"rows":30}"#)).await.unwrap();
        socket.send(Message::binary(&b"stty size\r"[..])).await.unwrap();
        read_until(&mut socket, "30 70").await;
        // The socket is lost; the shell is not, and what it wrote is shown again.
        drop(socket);
        let session = first["id"].as_str().unwrap();
        let mut socket = self.socket(&format!("/terminal/ws?session={session}"), key).await;
        assert_eq!(text_frame(&mut socket).await["id"], session);
        read_until(&mut socket, "42-there").await;
        let (status, sessions) = self.call("GET", "/terminal/sessions", None).await;
        assert_eq!((status, sessions.as_array().map(Vec::len)), (200, Some(1)), "{sessions}");

        let revoked = format!("/api/keys/{}", minted["id"].as_str().unwrap());
        let (status, _) = self.client.call_as_person("DELETE", &revoked, Value::Null).await;
        assert!(status < 300);
        let began = std::time::Instant::now();
        let code = closed(&mut socket).await;
        assert_eq!(code, CloseCode::from(4401));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let (status, _) = self.call("DELETE", &format!("/terminal/sessions/{session}"), None).await;
        assert!(status < 300);
    }

    async fn desktop(&self) {
        let shot = self.request("GET", "/vnc/screenshot").send().await.unwrap();
        let status = shot.status();
        let bytes = shot.bytes().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&bytes));
        assert!(bytes.starts_with(b"\x89PNG\r\n"), "a PNG");
        let (status, now) = self.call("GET", "/vnc/status", None).await;
        assert_eq!((status, &now["state"]), (200, &json!("running")), "{now}");
        let mut socket = self.socket("/vnc/ws", &self.client.key).await;
        let mut greeting = Vec::new();
        while greeting.len() < 12 {
            match next(&mut socket).await {
                Message::Binary(bytes) => greeting.extend_from_slice(&bytes),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(&greeting[..12], b"RFB 003.008\n");

        let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
        let mut words = vec!["move", "300", "200", "click", "1"];
        words.extend(["type", "touch", "key", "space", "type", "vncdotool", "key", "enter"]);
        words.extend(["capture", file.path().to_str().unwrap()]);
        vncdotool(async || self.socket("/vnc/ws", &self.client.key).await, &words).await;
        assert!(std::fs::read(file.path()).unwrap().starts_with(b"\x89PNG\r\n"), "a PNG");
        let wait = "timeout 20 sh -c 'until [ -e ~/vncdotool ]; do sleep 0.02; done'";
        assert_eq!(self.exec(json!({ "command": wait })).await["exit_code"], 0);
    }
}

/// A gateway that fails takes three tries to be called failing, and then some time to be up.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(180);

impl Workbench {
    /// Waits until the instance has the status; returns why.
    async fn until(&self, wanted: &str) -> Value {
        let look = async {
            loop {
                let (_, instance) = self.call("GET", "", None).await;
                if instance["status"] == wanted {
                    return instance["status_reason"].clone();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(GATEWAY_PATIENCE, look).await.unwrap_or_else(|_| panic!("never {wanted}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_an_owner_mends_the_configuration_that_the_agent_broke() {
    let platform = Platform::start(&[]).await;
    let client = platform.operator().await;
    let id = client.instance().await;
    let bench = Workbench { client, id };
    let home = bench.exec(json!({"command": "printf %s \"$HOME\""})).await;
    let path = format!("{}/.openclaw/openclaw.json", home["stdout"].as_str().unwrap());
    let read = async || {
        let (status, file) = bench.call("GET", &format!("/files/read?path={path}"), None).await;
        assert_eq!(status, 200, "{file}");
        file["content"].as_str().unwrap().to_owned()
    };
    let good = read().await;
    let spoil = format!(
        "sed -i '0,/{{/s//{{ \"noSuchKey\": 1,/' {path}; pkill -f '^openclaw|[o]penclaw.mjs gateway'"
    );
    bench.exec(json!({ "command": spoil })).await;
    let reason = bench.until("error").await;
    assert!(reason.as_str().unwrap().contains("correct openclaw.json"), "{reason}");

    let (status, refused) = bench.call("POST", "/chat", Some(json!({"message": "hello"}))).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("INSTANCE_NOT_READY")), "{refused}");
    assert!(read().await.contains("noSuchKey"));
    let (status, written) =
        bench.call("POST", "/files/write", Some(json!({"path": path, "content": good}))).await;
    assert!(status < 300, "{written}");
    bench.until("ready").await;
    let (status, turn) = bench.call("POST", "/chat", Some(json!({"message": "hello"}))).await;
    assert_eq!((status, &turn["status"]), (200, &json!("completed")), "{turn}");
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time").expect("a frame").unwrap()
}

async fn text_frame(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = next(socket).await {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

async fn read_until(socket: &mut Socket, wanted: &str) -> String {
    let mut seen = Vec::new();
    loop {
        if let Message::Binary(bytes) = next(socket).await {
            seen.extend_from_slice(&bytes);
        }
        let text = String::from_utf8_lossy(&seen);
        if text.contains(wanted) {
            return text.into_owned();
        }
    }
}

async fn closed(socket: &mut Socket) -> CloseCode {
    loop {
        if let Message::Close(frame) = next(socket).await {
            return frame.expect("a reason").code;
        }
    }
}

async fn everything_of_a_workbench(platform: Platform) {
    let client = platform.operator().await;
    let id = client.instance().await;
    let bench = Workbench { client, id };
    bench.commands().await;
    bench.files().await;
    bench.terminal().await;
    bench.desktop().await;
    // A stop closes what is open, and says so.
    let mut socket = bench.socket("/terminal/ws", &bench.client.key).await;
    text_frame(&mut socket).await;
    let stop = tokio::spawn({
        let (client, path) = (bench.client.clone(), bench.path("/stop?wait=60"));
        async move { client.call("POST", &path, None).await }
    });
    assert_eq!(closed(&mut socket).await, CloseCode::Away);
    let (_, stopped) = stop.await.unwrap();
    assert_eq!(stopped["status"], "succeeded", "{stopped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_process_workbench() {
    everything_of_a_workbench(Platform::start(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_docker_workbench() {
    everything_of_a_workbench(Platform::start(&[("REEF_RUNTIME", "docker")]).await).await;
}
