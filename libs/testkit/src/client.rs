//! A client whose every answer is compared with the OpenAPI document.

use std::sync::{Arc, Once};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::{Contract, Events, Socket, within};

/// Calls the platform as somebody, or as nobody.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    contract: Arc<Contract>,
    headers: HeaderMap,
}

/// A request that is being put together.
pub struct Call {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<reqwest::Body>,
}

/// An answer that the document knows.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    request: String,
}

impl Client {
    /// Returns a client without credentials.
    pub(crate) fn new(base: &str, contract: Arc<Contract>) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client can be made");
        Self { http, base: base.to_owned(), contract, headers: HeaderMap::new() }
    }

    /// Returns the same client with an API key.
    pub fn with_key(&self, secret: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {secret}"))
    }

    /// Returns the same client as a browser that holds this cookie and shows a page of the platform.
    pub fn with_cookie(&self, cookie: &str) -> Self {
        self.with_header("cookie", cookie).with_header("origin", &self.base)
    }

    /// Returns the same client with a header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        client
    }

    /// Returns where the platform is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Begins a request.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call {
            client: self.clone(),
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: self.headers.clone(),
            body: None,
        }
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    /// Posts JSON to `path`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path).json(body).send().await
    }

    /// Patches `path` with JSON.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path).json(body).send().await
    }

    /// Deletes `path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path).send().await
    }
}

impl Call {
    /// Sets a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// Sends JSON.
    pub fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends a body of this type.
    pub fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", content_type)
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Panics
    /// Where the answer is not in the document, or none comes.
    pub async fn send(self) -> Answer {
        let (method, path, contract) =
            (self.method.to_string(), self.path.clone(), self.client.contract.clone());
        let request = format!("{method} {path}");
        let response = within(&request, self.dispatch()).await.unwrap_or_else(|e| panic!("{request}: {e}"));
        Answer::read(request, &method, &path, response, &contract).await
    }

    /// Makes the request a WebSocket handshake (RFC 6455 §4.1).
    pub fn handshake(self) -> Self {
        self.header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Sends a WebSocket handshake and returns the socket, or the answer that refuses it.
    ///
    /// # Panics
    /// Where the answer is not in the document, or none comes.
    pub async fn open(self) -> Result<Socket, Answer> {
        let (method, path, contract) =
            (self.method.to_string(), self.path.clone(), self.client.contract.clone());
        let request = format!("{method} {path}");
        let sent = within(&request, self.handshake().dispatch()).await;
        let response = sent.unwrap_or_else(|e| panic!("{request}: {e}"));
        if response.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Answer::read(request, &method, &path, response, &contract).await);
        }
        contract.check(&method, &path, 101, None, Some(&[]));
        Ok(Socket::of(response).await)
    }

    /// Sends the request and returns its event stream.
    ///
    /// # Panics
    /// Where the answer is not one.
    pub async fn events(self) -> Events {
        let (method, path, contract) =
            (self.method.to_string(), self.path.clone(), self.client.contract.clone());
        let response = self.dispatch().await.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let (status, kind) = (response.status().as_u16(), response.headers().get("content-type").cloned());
        let kind = kind.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        if status != 200 || !kind.starts_with("text/event-stream") {
            panic!("{method} {path} → {status}: {}", response.text().await.unwrap_or_default());
        }
        contract.check(&method, &path, status, Some(&kind), None);
        Events::new(response, (method, path), contract)
    }

    /// Sends the request and returns the answer's head, unchecked.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn dispatch(self) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.http.request(self.method, format!("{}{}", self.client.base, self.path));
        request = request.headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        request.send().await
    }
}

impl Answer {
    async fn read(
        request: String,
        method: &str,
        path: &str,
        response: reqwest::Response,
        contract: &Contract,
    ) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = within(&request, response.bytes()).await.unwrap_or_else(|e| panic!("{request}: {e}"));
        let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
        contract.check(method, path, status, kind, Some(&body));
        Self { status, headers, body, request }
    }

    /// Returns the body as JSON, `null` where it is empty, of an answer with this status.
    ///
    /// # Panics
    /// Where the status is another one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// Returns the whole body of an error with this status and code.
    ///
    /// # Panics
    /// Where it is another one.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{}: {body}", self.request);
        assert_eq!(Some(body["request_id"].as_str().unwrap_or_default()), self.header("x-request-id"));
        body
    }

    /// Returns a header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns `name=value` of the cookie that the answer sets.
    pub fn cookie(&self) -> Option<String> {
        self.header("set-cookie").and_then(|text| text.split(';').next()).map(str::to_owned)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
