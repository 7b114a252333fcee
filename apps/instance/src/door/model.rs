//! The model relay: what the gateway believes to be its model provider.
//!
//! It listens inside the sandbox, wants the token of this start of hands, and forwards to `in/model.sock`, where the
//! control plane knows the instance by the socket. While the control plane is away it waits and tries again, so that a
//! restart there costs no turn.

use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::chat::WARM_UP_MESSAGE;

/// Connections of the gateway at a time.
pub(crate) const CONNECTIONS: usize = 128;

const MAX_BODY_BYTES: usize = 32 << 20;
/// Request bodies held at a time, in KiB: two of the largest.
const HELD_KIB: usize = 2 * MAX_BODY_BYTES / 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the control plane may be away.
const AWAY_LIMIT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(250);

type Body = Either<Incoming, Full<Bytes>>;

/// The relay of one door; it outlives hands.
#[derive(Debug)]
pub(crate) struct ModelRelay {
    socket: PathBuf,
    is_warming: AtomicBool,
    held: Arc<Semaphore>,
}

impl ModelRelay {
    /// Makes one that forwards to `socket`.
    pub(crate) fn new(socket: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            socket,
            is_warming: AtomicBool::new(false),
            held: Arc::new(Semaphore::new(HELD_KIB)),
        })
    }

    /// Answers [`WARM_UP_MESSAGE`] until the returned guard is dropped.
    pub(crate) fn warming(self: &Arc<Self>) -> Warming {
        self.is_warming.store(true, Ordering::Release);
        Warming(self.clone())
    }

    /// Serves one connection of the gateway's.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, token: Arc<str>) {
        let service = hyper::service::service_fn(|request| async {
            Ok::<_, Infallible>(self.answer(request, &token).await.unwrap_or_else(Refusal::into_response))
        });
        // Whatever ends it, the gateway sees it on the socket and tries again by itself.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>, token: &str) -> Result<Response<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        if !is_bearer(&parts.headers, token) {
            return Err(Refusal(StatusCode::UNAUTHORIZED, "wrong token"));
        }
        let is_known = match parts.uri.path() {
            "/v1/models" => parts.method == Method::GET,
            "/v1/chat/completions" | "/v1/responses" | "/v1/embeddings" => parts.method == Method::POST,
            _ => return Err(Refusal(StatusCode::NOT_FOUND, "no such route")),
        };
        if !is_known {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
        }
        // The whole body is held until the answer begins, so that it can be sent again to the next control plane.
        let (body, held) = self.hold(body).await?;
        if self.is_warming.load(Ordering::Acquire) && contains(&body, WARM_UP_MESSAGE.as_bytes()) {
            return Ok(canned(&body));
        }
        let response = self.forward(&parts, body).await;
        drop(held);
        response
    }

    async fn hold(&self, body: Incoming) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        const TOO_LARGE: Refusal = Refusal(StatusCode::PAYLOAD_TOO_LARGE, "request larger than 32 MiB");
        let expected = body.size_hint().upper().unwrap_or(MAX_BODY_BYTES as u64);
        if expected > MAX_BODY_BYTES as u64 {
            return Err(TOO_LARGE);
        }
        let kib = u32::try_from(expected.div_ceil(1024).max(1)).map_err(|_| TOO_LARGE)?;
        let held = self.held.clone().acquire_many_owned(kib).await.map_err(|_| TOO_LARGE)?;
        let whole = tokio::time::timeout(HEAD_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect())
            .await
            .map_err(|_| Refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come"))?
            .map_err(|_| TOO_LARGE)?;
        Ok((whole.to_bytes(), held))
    }

    async fn forward(&self, parts: &Parts, body: Bytes) -> Result<Response<Body>, Refusal> {
        let deadline = Instant::now() + AWAY_LIMIT;
        loop {
            let error = match self.forward_once(parts, body.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                tracing::warn!(%error, "the model gateway is away");
                return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "the model gateway is away; try again"));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// An error here means that no answer had begun.
    async fn forward_once(&self, parts: &Parts, body: Bytes) -> io::Result<Response<Body>> {
        let stream = reef_door::socket::connect_nofollow(&self.socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(parts.method.clone()).uri(parts.uri.path());
        request = request.header(header::HOST, "model");
        for name in [header::CONTENT_TYPE, header::ACCEPT, header::USER_AGENT] {
            if let Some(value) = parts.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let mut response = sender.send_request(request).await.map_err(io::Error::other)?;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::SET_COOKIE] {
            response.headers_mut().remove(name);
        }
        Ok(response.map(Either::Left))
    }
}

/// While it lives the relay answers the warm-up itself.
#[derive(Debug)]
pub(crate) struct Warming(Arc<ModelRelay>);

impl Drop for Warming {
    fn drop(&mut self) {
        self.0.is_warming.store(false, Ordering::Release);
    }
}

/// An error in the shape of OpenAI's.
struct Refusal(StatusCode, &'static str);

impl Refusal {
    fn into_response(self) -> Response<Body> {
        let kind = if self.0.is_server_error() { "server_error" } else { "invalid_request_error" };
        json_response(self.0, &json!({ "error": { "message": format!("reef: {}", self.1), "type": kind } }))
    }
}

/// Tells whether the request carries `Authorization: Bearer token`; takes the same time for every wrong one.
pub(crate) fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A completion that says "ok", streamed if the request asks for that.
fn canned(request: &[u8]) -> Response<Body> {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap_or_default();
    let usage = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
    let base = |object: &str, choices: serde_json::Value| json!({ "id": "chatcmpl-warm-up", "object": object, "created": 0, "model": "default", "choices": choices });
    if request["stream"] != true {
        let message = json!({ "role": "assistant", "content": "ok" });
        let mut whole =
            base("chat.completion", json!([{ "index": 0, "message": message, "finish_reason": "stop" }]));
        whole["usage"] = usage;
        return json_response(StatusCode::OK, &whole);
    }
    let chunk = |choices| base("chat.completion.chunk", choices);
    let mut last = chunk(json!([]));
    last["usage"] = usage;
    let chunks = [
        chunk(
            json!([{ "index": 0, "delta": { "role": "assistant", "content": "ok" }, "finish_reason": null }]),
        ),
        chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }])),
        last,
    ];
    let text =
        chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n";
    let mut response = Response::new(Either::Right(Full::from(text)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(relay: &Arc<ModelRelay>, token: &str, path: &str, body: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let relay = relay.clone();
        tokio::spawn(async move { relay.serve(listener.accept().await.unwrap().0, "right".into()).await });
        let mut stream = TcpStream::connect(at).await.unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn upstream(socket: &std::path::Path) {
        let listener = reef_door::socket::bind_private(socket).unwrap();
        let app = Router::new().route(
            "/v1/chat/completions",
            post(|headers: HeaderMap, body: String| async move {
                assert!(!headers.contains_key(header::AUTHORIZATION));
                format!("model says {body}")
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
    }

    #[tokio::test]
    async fn wants_the_token_and_a_known_route() {
        let dir = tempfile::tempdir().unwrap();
        let relay = ModelRelay::new(dir.path().join("model.sock"));
        upstream(&dir.path().join("model.sock"));
        let path = "/v1/chat/completions";
        assert!(ask(&relay, "wrong", path, "hi").await.starts_with("HTTP/1.1 401"));
        assert!(ask(&relay, "right", "/v1/files", "hi").await.starts_with("HTTP/1.1 404"));
        assert!(ask(&relay, "right", "/v1/models", "hi").await.starts_with("HTTP/1.1 405"));
        assert!(ask(&relay, "right", path, "hi").await.ends_with("model says hi"));
    }

    #[tokio::test]
    async fn waits_for_a_control_plane_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("model.sock");
        let relay = ModelRelay::new(socket.clone());
        let (answer, ()) = tokio::join!(ask(&relay, "right", "/v1/chat/completions", "hi"), async {
            // A predecessor takes the request and dies without an answer.
            let dying = reef_door::socket::bind_private(&socket).unwrap();
            drop(dying.accept().await.unwrap());
            drop(dying);
            upstream(&socket);
        });
        assert!(answer.ends_with("model says hi"), "{answer}");
    }

    #[tokio::test]
    async fn answers_the_warm_up_itself_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("model.sock");
        upstream(&socket);
        let relay = ModelRelay::new(socket);
        let body = json!({ "stream": true, "messages": [{ "role": "user", "content": WARM_UP_MESSAGE }] })
            .to_string();
        let warming = relay.warming();
        assert!(ask(&relay, "right", "/v1/chat/completions", &body).await.ends_with("data: [DONE]\n\n"));
        assert!(ask(&relay, "right", "/v1/chat/completions", "else").await.ends_with("model says else"));
        drop(warming);
        assert!(ask(&relay, "right", "/v1/chat/completions", &body).await.contains("model says"));
    }
}
