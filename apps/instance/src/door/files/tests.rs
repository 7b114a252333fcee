//! The routes, with real hands behind a real work channel.

use std::{
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::{body::Body, http::Request, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::{door::held::Held, hands::testing::TestHands};

struct Door {
    hands: TestHands,
    app: axum::Router,
}

impl Door {
    fn start() -> Self {
        let hands = TestHands::start();
        let roots = ["workspace", "home"].map(|name| hands.dir.path().join(name));
        let app = super::router(hands.work.clone(), Held::default(), [&roots[0], &roots[1]]);
        Self { hands, app }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.hands.dir.path().join("workspace").join(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.at("")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.app.clone().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers, Body::empty()).await
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(method.as_str(), path, &[], body).await;
        let status = response.status();
        let bytes = bytes(response).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.json(Method::POST, path, body).await
    }

    async fn put(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
        self.send("PUT", path, headers, body.into()).await
    }
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn value<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_in_json() {
    let door = Door::start();
    let (status, made) = door.post("/files/write", json!({ "path": "a/b.txt", "content": "grüße" })).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["type"], &made["size"], &made["mode"]), (&"file".into(), &7.into(), &"0644".into()));
    let (_, read) = door.json(Method::GET, "/files/read?path=/workspace/a/b.txt", Value::Null).await;
    assert_eq!((&read["content"], &read["encoding"]), (&"grüße".into(), &"utf8".into()));
    assert_eq!((&read["etag"], &read["size"]), (&made["etag"], &7.into()));
    assert_eq!((&read["truncated"], &read["path"]), (&false.into(), &made["path"]));
    let again = json!({
        "path": "a/b.txt", "content": "/w==", "encoding": "base64", "mode": "600", "if_match": made["etag"],
    });
    let (status, replaced) = door.post("/files/write", again.clone()).await;
    assert_eq!((status, &replaced["mode"]), (StatusCode::OK, &"0600".into()));
    assert_eq!(door.post("/files/write", again).await.0, StatusCode::PRECONDITION_FAILED);
    let (_, read) = door.json(Method::GET, "/files/read?path=a/b.txt", Value::Null).await;
    assert_eq!((&read["content"], &read["encoding"]), (&"/w==".into(), &"base64".into()));
    let (status, _) = door.json(Method::GET, "/files/read?path=a/b.txt&encoding=utf8", Value::Null).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let upload = json!({ "targetDir": "/workspace/in/deep", "fileName": "x", "content": "aGk=", "encoding": "base64" });
    let (status, entry) = door.post("/files/upload", upload).await;
    assert_eq!((status, &entry["name"]), (StatusCode::CREATED, &"x".into()));
    assert_eq!(std::fs::read_to_string(door.at("in/deep/x")).unwrap(), "hi");
    for name in ["", "..", "a/b"] {
        let upload = json!({ "targetDir": "in", "fileName": name, "content": "" });
        assert_eq!(door.post("/files/upload", upload).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    std::fs::write(door.at("long"), "é".repeat(5 << 20)).unwrap();
    let (_, read) = door.json(Method::GET, "/files/read?path=long", Value::Null).await;
    assert_eq!((&read["truncated"], &read["size"]), (&true.into(), &(10 << 20).into()));
    assert_eq!(read["content"].as_str().unwrap().len(), 8 << 20);
    let base64 = json!({ "path": "y", "content": "***", "encoding": "base64" });
    assert_eq!(door.post("/files/write", base64).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(door.names(), ["a", "in", "long"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_status_and_reason() {
    let door = Door::start();
    std::fs::create_dir_all(door.at("dir/sub")).unwrap();
    std::fs::write(door.at("file"), "x").unwrap();
    symlink("/etc", door.at("out")).unwrap();
    nix::unistd::mkfifo(&door.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let from_to = |from: &str, to: &str| json!({ "from": from, "to": to });
    for (method, path, body, status, reason) in [
        ("GET", "/files/content?path=none", Value::Null, 404, "not_found"),
        ("GET", "/files/content?path=dir", Value::Null, 409, "is_a_directory"),
        ("GET", "/files/content?path=fifo", Value::Null, 422, "not_a_file"),
        ("GET", "/files/content?path=..%2Fx", Value::Null, 400, "outside"),
        ("GET", "/files/content?path=out%2Fpasswd", Value::Null, 400, "outside"),
        ("GET", "/files/content?path=a%00b", Value::Null, 400, "invalid"),
        ("GET", "/files?path=file", Value::Null, 409, "not_a_directory"),
        ("GET", "/files?path=none", Value::Null, 404, "not_found"),
        ("GET", "/files/stat?path=/etc/passwd", Value::Null, 400, "outside"),
        ("GET", "/files/archive?path=none&format=zip", Value::Null, 404, "not_found"),
        ("GET", "/files/search?path=none&query=x", Value::Null, 404, "not_found"),
        ("GET", "/files/search?path=.&query=(&regex=true", Value::Null, 400, "invalid"),
        ("GET", "/files/watch?path=none", Value::Null, 404, "not_found"),
        ("POST", "/files/archive?path=new", json!("no archive"), 400, "invalid"),
        ("POST", "/files/mkdir", json!({ "path": "file/x" }), 409, "not_a_directory"),
        ("POST", "/files/write", json!({ "path": "dir", "content": "" }), 409, "is_a_directory"),
        ("POST", "/files/write", json!({ "path": "file/x", "content": "" }), 409, "not_a_directory"),
        ("POST", "/files/move", from_to("file", "dir"), 409, "exists"),
        ("POST", "/files/move", from_to("dir", "dir/sub/dir"), 400, "invalid"),
        ("POST", "/files/copy", from_to("none", "x"), 404, "not_found"),
        ("POST", "/files/chmod", json!({ "path": "none", "mode": "0600" }), 404, "not_found"),
        ("DELETE", "/files?path=dir", Value::Null, 409, "not_empty"),
        ("DELETE", "/files?path=/workspace&recursive=true", Value::Null, 400, "invalid"),
    ] {
        let (got, answer) = door.json(method.parse().unwrap(), path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert_eq!(answer["error"]["details"]["reason"], reason, "{method} {path}: {answer}");
        assert!(answer["request_id"].is_string());
    }
    for (method, path, body) in [
        ("GET", "/files", Value::Null),
        ("GET", "/files?path=.&limit=0", Value::Null),
        ("GET", "/files?path=.&recursive=perhaps", Value::Null),
        ("GET", "/files/search?path=.", Value::Null),
        ("GET", "/files/read?path=file&encoding=rot13", Value::Null),
        ("GET", "/files/archive?path=.&format=rar", Value::Null),
        ("POST", "/files/chmod", json!({ "path": "file", "mode": "4755" })),
        ("POST", "/files/chmod", json!({ "path": "file", "mode": "+x" })),
        ("POST", "/files/mkdir", json!({ "path": "x", "more": 1 })),
        ("PUT", "/files/content?path=x&mode=9", Value::Null),
    ] {
        let (got, answer) = door.json(method.parse().unwrap(), path, body).await;
        assert!(matches!(got.as_u16(), 400 | 422), "{method} {path}: {got} {answer}");
        assert!(answer["error"]["details"]["fields"][0]["field"].is_string(), "{path}: {answer}");
    }
    assert_eq!(door.names(), ["dir", "fifo", "file", "new", "out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_bytes_with_ranges_and_preconditions() {
    let door = Door::start();
    let text: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(door.at("übung 1.html"), &text).unwrap();
    let path = "/files/content?path=%C3%BCbung%201.html";
    let response = door.get(path, &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(value(&response, "content-length"), "700000");
    assert_eq!(value(&response, "content-type"), "text/html");
    let saved = "attachment; filename=\"_bung 1.html\"; filename*=UTF-8''%C3%BCbung%201.html";
    assert_eq!(value(&response, "content-disposition"), saved);
    assert_eq!(value(&response, "accept-ranges"), "bytes");
    let (etag, modified) =
        (value(&response, "etag").to_owned(), value(&response, "last-modified").to_owned());
    assert!(bytes(response).await == text);

    let head = door.send("HEAD", path, &[], Body::empty()).await;
    assert_eq!((value(&head, "content-length"), value(&head, "etag")), ("700000", etag.as_str()));
    assert!(bytes(head).await.is_empty());

    for (range, first, last) in
        [("bytes=5-7", 5, 7), ("bytes=699990-", 699_990, 699_999), ("bytes=-300000", 400_000, 699_999)]
    {
        let response = door.get(path, &[("range", range)]).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(value(&response, "content-range"), format!("bytes {first}-{last}/700000"));
        assert_eq!(value(&response, "content-length"), (last - first + 1).to_string());
        assert!(bytes(response).await == text[first..=last], "{range}");
    }
    let response = door.get(path, &[("range", "bytes=700000-")]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(value(&response, "content-range"), "bytes */700000");
    for (name, given, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-modified-since", modified.as_str(), 304),
        ("if-match", "\"other\"", 412),
        ("if-none-match", "\"other\"", 200),
        ("range", "bytes=0-1,5-6", 200),
    ] {
        let response = door.get(path, &[(name, given)]).await;
        assert_eq!(response.status(), status, "{name}");
    }
    std::fs::write(door.at("empty"), "").unwrap();
    let response = door.get("/files/content?path=empty", &[]).await;
    assert_eq!((response.status(), value(&response, "content-length")), (StatusCode::OK, "0"));
    assert_eq!(value(&response, "content-type"), "application/octet-stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_breaks_off() {
    let door = Door::start();
    for change in ["truncated", "written"] {
        std::fs::write(door.at("f"), vec![1; 2 << 20]).unwrap();
        let mut body = door.get("/files/content?path=f", &[]).await.into_body().into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        let file = std::fs::OpenOptions::new().write(true).open(door.at("f")).unwrap();
        if change == "truncated" {
            file.set_len(1 << 20).unwrap();
        } else {
            // Surely another time than that of the beginning.
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        let mut ended = Ok(0);
        while let Some(chunk) = body.next().await {
            ended = ended.and_then(|sum| Ok::<_, axum::Error>(sum + chunk?.len()));
        }
        assert!(ended.is_err(), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_bytes_whole_or_not_at_all() {
    let door = Door::start();
    let path = "/files/content?path=new/dir/x.bin";
    let chunks: Vec<Bytes> = (0..40_u8).map(|n| Bytes::from(vec![n; 50_000])).collect();
    let whole = chunks.concat();
    let body =
        |chunks: Vec<Bytes>| Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>)));
    let response = door.put(path, &[("if-none-match", "*")], body(chunks.clone())).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let etag = value(&response, "etag").to_owned();
    assert!(std::fs::read(door.at("new/dir/x.bin")).unwrap() == whole);
    assert_eq!(
        door.put(path, &[("if-none-match", "*")], "2").await.status(),
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(door.put(path, &[("if-match", "\"x\"")], "2").await.status(), StatusCode::PRECONDITION_FAILED);
    let response = door.put(&format!("{path}&mode=0750"), &[("if-match", &etag)], "2").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_ne!(value(&response, "etag"), etag);
    assert_eq!(door.at("new/dir/x.bin").metadata().unwrap().mode() & 0o777, 0o750);
    assert_eq!(door.put(path, &[], Body::empty()).await.status(), StatusCode::OK);
    assert_eq!(door.at("new/dir/x.bin").metadata().unwrap().len(), 0);
    let no_parents = "/files/content?path=none/x&parents=false";
    assert_eq!(door.put(no_parents, &[], "x").await.status(), StatusCode::NOT_FOUND);
    let huge = [("content-length", "9000000000000000000")];
    let response = door.put("/files/content?path=huge", &huge, Body::empty()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);

    // A client that goes away in the middle.
    let broken = stream::iter(
        chunks.into_iter().map(Ok).chain([Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]),
    );
    let response = door.put("/files/content?path=lost", &[], Body::from_stream(broken)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(door.names(), ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_changes_the_tree() {
    let door = Door::start();
    for path in ["src/a.rs", "src/b.rs", "c"] {
        door.post("/files/write", json!({ "path": path, "content": "fn x" })).await;
    }
    let response = door.get("/files?path=/workspace&recursive=true&limit=3", &[]).await;
    let link = value(&response, "link").to_owned();
    let page: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(page.as_array().unwrap().len(), 3);
    let next = link.strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")).unwrap().0;
    let response = door.get(&format!("/files{next}"), &[]).await;
    assert_eq!(value(&response, "x-next-cursor"), "");
    let rest: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!((rest.as_array().unwrap().len(), &rest[0]["name"]), (1, &"b.rs".into()));

    let (status, entry) = door.post("/files/mkdir", json!({ "path": "new/dir" })).await;
    assert_eq!((status, &entry["type"]), (StatusCode::CREATED, &"directory".into()));
    assert_eq!(door.post("/files/mkdir", json!({ "path": "new/dir" })).await.0, StatusCode::OK);
    let (status, report) = door.post("/files/copy", json!({ "from": "src", "to": "new/src" })).await;
    assert_eq!((status, &report["files"]), (StatusCode::CREATED, &2.into()));
    assert_eq!(report["entry"]["type"], "directory");
    let moved = json!({ "from": "c", "to": "new/src/a.rs", "overwrite": true });
    assert_eq!(door.post("/files/move", moved).await.0, StatusCode::OK);
    let (status, entry) = door.post("/files/chmod", json!({ "path": "src/a.rs", "mode": "755" })).await;
    assert_eq!((status, &entry["mode"]), (StatusCode::OK, &"0755".into()));
    let (_, stat) = door.json(Method::GET, "/files/stat?path=src/a.rs", Value::Null).await;
    assert_eq!(stat, entry);
    let tag = entry["etag"].as_str().unwrap();
    let delete = |tag: &str| {
        let headers = [("if-match".to_owned(), tag.to_owned())];
        let door = &door;
        async move {
            let headers = headers.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
            door.send("DELETE", "/files?path=src/a.rs", &headers, Body::empty()).await.status()
        }
    };
    assert_eq!(delete("\"x\"").await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(delete(tag).await, StatusCode::NO_CONTENT);
    let (_, found) =
        door.json(Method::GET, "/files/search?path=.&query=fn&glob=*.rs&limit=2", Value::Null).await;
    assert_eq!((&found["truncated"], &found["matches"][0]["line"]), (&true.into(), &1.into()));
    assert_eq!(found["matches"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_and_unpacks() {
    let door = Door::start();
    for number in 0..50 {
        std::fs::create_dir_all(door.at("src/d")).unwrap();
        std::fs::write(door.at(&format!("src/d/{number}")), vec![number; 20_000]).unwrap();
    }
    for (format, kind) in [("tar.gz", "application/gzip"), ("zip", "application/zip")] {
        let response = door.get(&format!("/files/archive?path=/workspace/src/&format={format}"), &[]).await;
        assert_eq!((response.status(), value(&response, "content-type")), (StatusCode::OK, kind));
        assert!(value(&response, "content-disposition").contains(&format!("\"src.{format}\"")));
        let archive = bytes(response).await;
        let path = format!("/files/archive?path=out-{format}");
        let response = door.send("POST", &path, &[], Body::from(archive.clone())).await;
        let report: Value = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(report, json!({ "files": 50, "bytes": 1_000_000 }));
        assert_eq!(std::fs::read(door.at(&format!("out-{format}/d/7"))).unwrap(), [7; 20_000]);
        let half = Body::from(archive.slice(..archive.len() / 2));
        let response = door.send("POST", "/files/archive?path=half", &[], half).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{format}");
    }
    // A file that cannot be read: the archive breaks off, it is not silently without it.
    std::fs::write(door.at("src/d/100"), vec![0; 1 << 20]).unwrap();
    let deep = door.at(&format!("src/e/{}", "d/".repeat(210)));
    std::fs::create_dir_all(deep).unwrap();
    let response = door.get("/files/archive?path=src", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_until_the_client_leaves() {
    let door = Door::start();
    let watch = async || {
        let response = door.get("/files/watch?path=/workspace&recursive=true", &[]).await;
        (response.status(), response.into_body().into_data_stream())
    };
    let (status, mut events) = watch().await;
    assert_eq!(status, StatusCode::OK);
    let mut text = String::new();
    let mut until = async |what: &str| {
        while !text.contains(what) {
            let chunk = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect(what);
            text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    };
    until("event: ready").await;
    door.post("/files/write", json!({ "path": "x/y", "content": "1" })).await;
    until("event: created").await;
    until("workspace/x/y").await;
    assert!(text.contains("id: 2"), "{text}");
    drop(events);
    // More than can be at a time: each ends with its client.
    let begin = Instant::now();
    for _ in 0..100 {
        let (mut status, mut _events) = watch().await;
        while status != StatusCode::OK {
            assert!(begin.elapsed() < Duration::from_secs(30), "watches do not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
            (status, _events) = watch().await;
        }
    }
}

/// A real connection: 1 GiB there and back in constant memory, and 1,000 small files.
#[tokio::test(flavor = "multi_thread")]
async fn real_files_keep_their_checksums_in_constant_memory() {
    const CHUNK: usize = 1 << 20;
    const COUNT: usize = 1024;
    let door = Door::start();
    let socket = door.hands.dir.path().join("door.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(axum::serve(listener, door.app.clone()).into_future());
    let client = async || {
        let io = hyper_util::rt::TokioIo::new(tokio::net::UnixStream::connect(&socket).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(io).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    let mut sender = client().await;
    let mut send = async |method: Method, path: &str, body: Body| {
        let uri = format!("/files/content?path={path}");
        let request =
            Request::builder().method(method).uri(uri).header(header::HOST, "door").body(body).unwrap();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    };
    // A refusal is heard, also by those who first send everything.
    let refused = send(Method::PUT, "none/x&parents=false", Body::from(vec![0; 20 << 20])).await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    refused.into_body().collect().await.unwrap();
    let piece = |number: usize| {
        let mut bytes = vec![0; CHUNK];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Bytes::from(bytes)
    };
    let mut sent = Sha256::new();
    for number in 0..COUNT {
        sent.update(piece(number));
    }
    let body =
        Body::from_stream(stream::iter((0..COUNT).map(move |number| Ok::<_, std::io::Error>(piece(number)))));
    assert_eq!(send(Method::PUT, "big", body).await.status(), StatusCode::CREATED);
    let response = send(Method::GET, "big", Body::empty()).await;
    assert_eq!(response.headers()[header::CONTENT_LENGTH], (COUNT * CHUNK).to_string());
    let (mut got, mut body) = (Sha256::new(), response.into_body());
    while let Some(frame) = body.frame().await {
        got.update(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(got.finalize(), sent.finalize());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 << 10, "{peak} KiB at most");

    for number in 0..1000 {
        let text = format!("file {number}").repeat(number % 50);
        let response = send(Method::PUT, &format!("many/{}/{number}", number % 7), text.clone().into()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        response.into_body().collect().await.unwrap();
        let response = send(Method::GET, &format!("many/{}/{number}", number % 7), Body::empty()).await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
    let (_, listed) =
        door.json(Method::GET, "/files?path=many&recursive=true&limit=10000", Value::Null).await;
    assert_eq!(listed.as_array().unwrap().len(), 1007);
}

#[tokio::test]
async fn an_upload_that_nobody_wants_goes_although_hands_is_busy() {
    let door = Door::start();
    let nameless = || {
        let workspace = door.at("");
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|to| to.starts_with(&workspace) && to.to_string_lossy().ends_with(" (deleted)")).count()
    };
    let until = async |is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::put("/files/content?path=x").body(body).unwrap();
    let putting = tokio::spawn(door.app.clone().oneshot(request));
    until(&|| nameless() > 0).await;
    let busy = door.hands.work.fill().await;
    tokio::time::pause();
    putting.abort();
    assert!(putting.await.is_err());
    // Longer than a call waits.
    tokio::time::sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert!(nameless() > 0);
    drop(busy);
    until(&|| nameless() == 0).await;
}
