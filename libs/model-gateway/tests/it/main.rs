//! The model gateway over its real sockets, before a provider that may do anything.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod demo;
mod provider;

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use reef_door::{RunDir, socket::connect_nofollow};
use reef_model::InstanceId;
use reef_model_gateway::{ModelGateway, ProviderConfig, Usage, UsageSink};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Keeps what was recorded.
#[derive(Default)]
struct Ledger(Mutex<Vec<(InstanceId, Usage)>>);

impl UsageSink for Ledger {
    fn record(&self, instance: InstanceId, usage: Usage) {
        self.0.lock().unwrap().push((instance, usage));
    }
}

impl Ledger {
    fn entries(&self) -> Vec<Usage> {
        self.0.lock().unwrap().iter().map(|(_, usage)| usage.clone()).collect()
    }
}

/// One instance with its socket.
struct Setup {
    gateway: ModelGateway,
    ledger: Arc<Ledger>,
    id: InstanceId,
    dir: TempDir,
}

impl Setup {
    fn new(provider: Option<ProviderConfig>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ledger = Arc::new(Ledger::default());
        let gateway = ModelGateway::new(provider, ledger.clone()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let setup = Self { gateway, ledger, id: InstanceId::generate(), dir };
        setup.gateway.serve(setup.id, &setup.run_dir()).unwrap();
        setup
    }

    fn run_dir(&self) -> RunDir {
        RunDir::new(self.dir.path())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = connect_nofollow(&self.run_dir().model_socket()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Response<Incoming> {
        let request = Request::post(path)
            .header("host", "model")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    async fn chat(&self, body: Value) -> Response<Incoming> {
        self.post("/v1/chat/completions", body).await
    }
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn value(response: Response<Incoming>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// Returns the data of each event.
fn events(stream: &str) -> Vec<Value> {
    stream
        .split("\n\n")
        .filter_map(|event| event.trim().strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn said(text: &str) -> Value {
    json!({ "model": "default", "messages": [{ "role": "user", "content": text }] })
}

fn streamed(text: &str) -> Value {
    let mut body = said(text);
    body["stream"] = true.into();
    body
}

#[tokio::test]
async fn serving_twice_is_serving_once_and_a_lost_socket_comes_back() {
    let setup = Setup::new(None);
    let socket = setup.run_dir().model_socket();
    setup.gateway.serve(setup.id, &setup.run_dir()).unwrap();
    std::fs::remove_file(&socket).unwrap();
    setup.gateway.serve(setup.id, &setup.run_dir()).unwrap();
    assert_eq!(setup.chat(said("hello")).await.status(), StatusCode::OK);
    setup.gateway.release(setup.id);
    assert!(setup.gateway.shutdown(std::time::Duration::from_secs(5)).await);
    assert_eq!(connect_nofollow(&socket).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn lists_one_model_and_refuses_the_rest() {
    let setup = Setup::new(None);
    let get = |path: &str| Request::get(path).header("host", "model").body(Full::default()).unwrap();
    assert_eq!(value(setup.send(get("/v1/models")).await).await["data"][0]["id"], "default");
    assert_eq!(setup.send(get("/v1/files")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(setup.send(get("/v1/chat/completions")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let refused = setup.chat(json!({ "messages": "none" })).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(value(refused).await["error"]["type"], "invalid_request_error");
    assert!(setup.ledger.entries().is_empty());
}
