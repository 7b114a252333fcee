//! The pipe between a real HTTP server and doors that may say anything.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod forward;
mod tunnel;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use reef_proxy::{Call, Connection, Dialer, DoorBody, Pipe, PipeError, Socket, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

const SOCKET: uuid::Uuid = uuid::Uuid::from_u128(7);

type Behaviour = Arc<dyn Fn(Door) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

/// The door's end of one connection.
struct Door {
    io: DuplexStream,
    /// Counts from 1.
    number: usize,
}

impl Door {
    /// Reads one request head; its body stays unread.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.io.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    async fn say(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }
}

/// Dials doors that behave as told.
struct FakeDialer {
    behaviour: Option<Behaviour>,
    dialed: mpsc::UnboundedSender<String>,
    count: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Dialer for FakeDialer {
    async fn dial(&self, id: uuid::Uuid, generation: i64) -> io::Result<Connection> {
        let _ = self.dialed.send(format!("{} {generation}", id.as_u128()));
        let Some(behaviour) = &self.behaviour else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let number = self.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(behaviour(Door { io: far, number }));
        Ok(Box::new(near))
    }
}

/// A pipe behind a server, as the control plane has it.
struct Setup {
    pipe: Pipe<Incoming>,
    revoked: CancellationToken,
    head_timeout: Duration,
    idle_timeout: Duration,
    dialed: mpsc::UnboundedReceiver<String>,
}

impl Setup {
    fn new<F>(behaviour: impl Fn(Door) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Some(Arc::new(move |door| Box::pin(behaviour(door)))))
    }

    fn with(behaviour: Option<Behaviour>) -> Self {
        let (sender, dialed) = mpsc::unbounded_channel();
        Self {
            pipe: Pipe::new(FakeDialer { behaviour, dialed: sender, count: Default::default() }),
            revoked: CancellationToken::new(),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            dialed,
        }
    }

    /// Returns a client's connection to the server in front of the pipe.
    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(64 * 1024);
        let (pipe, revoked, head, idle) =
            (self.pipe.clone(), self.revoked.clone(), self.head_timeout, self.idle_timeout);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (pipe, revoked) = (pipe.clone(), revoked.clone());
                async move { Ok::<_, Infallible>(serve(&pipe, request, revoked, head, idle).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(server), service)
                .with_upgrades()
                .await;
        });
        client
    }

    /// Sends a request and returns the response as it streams in.
    async fn request(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect())).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.request(Request::get(path).body(Full::default()).unwrap()).await
    }
}

async fn serve(
    pipe: &Pipe<Incoming>,
    request: Request<Incoming>,
    revoked: CancellationToken,
    head_timeout: Duration,
    idle_timeout: Duration,
) -> Response<Either<DoorBody<Incoming>, Full<Bytes>>> {
    let upstream = Upstream {
        id: uuid::Uuid::from_u128(1),
        generation: 3,
        authorization: HeaderValue::from_static("Bearer door-token"),
    };
    let path = request.uri().path_and_query().unwrap().clone();
    let call = Call {
        head_timeout,
        idle_timeout,
        ..Call::new(
            upstream,
            path,
            HeaderValue::from_static("usr_a"),
            HeaderValue::from_static("req_a"),
            revoked,
        )
    };
    let socket = Socket { name: SOCKET, held: Box::new(()) };
    let is_upgrade = request.headers().contains_key("upgrade");
    let outcome = if is_upgrade {
        pipe.tunnel(request, &call, socket).await
    } else {
        pipe.forward(request, &call).await
    };
    match outcome {
        Ok(response) => response.map(Either::Left),
        Err(error) => {
            let name = match error {
                PipeError::Unreachable(_) => "unreachable",
                PipeError::HeadTimeout => "head timeout",
                PipeError::UploadStalled => "upload stalled",
                PipeError::Downstream(_) => "downstream",
                PipeError::Upstream(_) => "upstream",
                PipeError::Protocol(_) => "protocol",
                PipeError::NotAHandshake => "not a handshake",
                PipeError::Revoked => "revoked",
            };
            let mut response = Response::new(Either::Right(Full::from(name)));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
