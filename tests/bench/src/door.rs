//! The upstream: answers as a door does, as quickly as hyper can, on a unix socket and on TCP.

use std::{
    convert::Infallible,
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use reef_door::{Boot, DoorPhase, DoorStatus, RunDir, socket::bind_private};
use reef_model::{Clock, Isolation, SystemClock};
use tokio::io::{AsyncRead, AsyncWrite};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Open followers; asked for at `/followers`.
static FOLLOWERS: AtomicI64 = AtomicI64::new(0);
static PAYLOAD: [u8; 65_536] = [b'x'; 65_536];

/// `door --run-dir DIR …`, as the process runtime starts it; the TCP port is written to `out/port`.
pub(crate) async fn serve_instance(args: &[String]) {
    let at = args.iter().position(|arg| arg == "--run-dir").unwrap();
    let run_dir = RunDir::new(&args[at + 1]);
    let boot: Boot = serde_json::from_slice(&std::fs::read(run_dir.boot_file()).unwrap()).unwrap();
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    std::fs::write(run_dir.outward().join("port"), port.to_string()).unwrap();
    let unix = bind_private(&run_dir.door_socket()).unwrap();
    let generation = boot.generation;
    loop {
        tokio::select! {
            Ok((stream, _)) = unix.accept() => { tokio::spawn(converse(stream, generation)); }
            Ok((stream, _)) = tcp.accept() => {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(converse(stream, generation));
            }
        }
    }
}

/// `auth SOCKET`: nginx asks it about every request; it says yes.
pub(crate) async fn serve_auth(socket: &Path) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async {
            let yes = service_fn(|request: Request<Incoming>| async move {
                let is_known = request.headers().contains_key("authorization");
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() =
                    if is_known { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
                Ok::<_, Infallible>(response)
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), yes).await;
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, generation: i64) {
    let service = service_fn(move |request| answer(request, generation));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, generation: i64) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let response = match request.uri().path() {
        "/status" => {
            if query.contains("after=") {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            json(serde_json::to_vec(&status(generation)).unwrap().into())
        }
        "/followers" => json(FOLLOWERS.load(Ordering::SeqCst).to_string().into()),
        "/chat/events" => events(query.contains("idle=1")),
        _ => {
            let size = query.split('&').find_map(|pair| pair.strip_prefix("size=")?.parse().ok());
            json(Bytes::from_static(&PAYLOAD[..size.unwrap_or(200)]))
        }
    };
    Ok(response)
}

fn status(generation: i64) -> DoorStatus {
    DoorStatus {
        revision: 1,
        generation,
        phase: DoorPhase::Ready,
        reason: None,
        isolation: Isolation::Bubblewrap,
        openclaw_version: Some("0".to_owned()),
        gateway_restarts: 0,
        active_turns: 0,
        last_active_at: None,
    }
}

fn json(body: Bytes) -> Response<Body> {
    Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(body).boxed_unsync())
        .unwrap()
}

/// Each event holds the microsecond at which it was made.
fn events(is_idle: bool) -> Response<Body> {
    struct Follower;
    impl Drop for Follower {
        fn drop(&mut self) {
            FOLLOWERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let stream = async_stream::stream! {
        FOLLOWERS.fetch_add(1, Ordering::SeqCst);
        let _follower = Follower;
        yield Ok(Frame::data(Bytes::from_static(b": hello\n\n")));
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        loop {
            if is_idle {
                tokio::time::sleep(Duration::from_secs(15)).await;
                yield Ok(Frame::data(Bytes::from_static(b": still here\n\n")));
            } else {
                ticks.tick().await;
                let now = SystemClock.now().unix_micros();
                yield Ok(Frame::data(Bytes::from(format!("event: tick\ndata: {now}\n\n"))));
            }
        }
    };
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(StreamBody::new(stream).boxed_unsync())
        .unwrap()
}
