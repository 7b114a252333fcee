//! The way out of a sandbox that has no network: an HTTP proxy that reaches the public internet and nothing else.
//!
//! `CONNECT` (RFC 9110 §9.3.6) and requests in absolute form (RFC 9112 §3.2.2). Names are resolved here, and the
//! connection goes to the very address that was checked, so a name that changes between the two gains nothing.

use std::{convert::Infallible, io, net::SocketAddr, sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::address;

/// Connections at a time.
pub(crate) const CONNECTIONS: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 32 * 1024;
/// Where mail servers take mail from each other without credentials: an agent that sends there sends spam in this
/// machine's name. A provider's submission ports (465, 587) want its account, and stay open, as all others do.
const MAIL_EXCHANGE: u16 = 25;

type Body = Either<Incoming, Full<Bytes>>;

/// A tunnel that was promised and begins when the answer to `CONNECT` is out.
type Promised = Mutex<Option<(OnUpgrade, TcpStream)>>;

/// Serves one connection of the tenant's to its end, the tunnel that it may turn into included.
pub(crate) async fn serve(stream: TcpStream) {
    let promised = Promised::default();
    let service =
        hyper::service::service_fn(|request| async { Ok::<_, Infallible>(answer(request, &promised).await) });
    // Whatever ends it, the tenant sees it on the socket; there is nobody else to tell.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let Some((upgrade, mut upstream)) = promised.into_inner().ok().flatten() else { return };
    if let Ok(upgraded) = upgrade.await {
        let mut downstream = TokioIo::new(upgraded);
        let _ = tokio::io::copy_bidirectional_with_sizes(
            &mut downstream,
            &mut upstream,
            BUFFER_BYTES,
            BUFFER_BYTES,
        )
        .await;
    }
}

async fn answer(request: Request<Incoming>, promised: &Promised) -> Response<Body> {
    let result = if request.method() == Method::CONNECT {
        tunnel(request, promised).await
    } else {
        forward(request).await
    };
    result.unwrap_or_else(|refusal| {
        let (status, text) = match refusal {
            Refusal::BadRequest => (StatusCode::BAD_REQUEST, "reef: not a proxy request\n".to_owned()),
            Refusal::Address(host) => {
                (StatusCode::FORBIDDEN, format!("reef: {host} is not an address of the public internet\n"))
            }
            Refusal::Port => (
                StatusCode::FORBIDDEN,
                "reef: port 25 is closed; send mail through your provider's port 465 or 587\n".to_owned(),
            ),
            Refusal::Upstream(error) => (StatusCode::BAD_GATEWAY, format!("reef: {error}\n")),
        };
        let mut response = Response::new(Either::Right(Full::from(text)));
        *response.status_mut() = status;
        response
    })
}

enum Refusal {
    BadRequest,
    Address(String),
    Port,
    Upstream(io::Error),
}

impl From<hyper::Error> for Refusal {
    fn from(error: hyper::Error) -> Self {
        Self::Upstream(io::Error::other(error))
    }
}

async fn tunnel(request: Request<Incoming>, promised: &Promised) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().ok_or(Refusal::BadRequest)?;
    let port = authority.port_u16().ok_or(Refusal::BadRequest)?;
    let upstream = connect(authority, port).await?;
    if let Ok(mut promised) = promised.lock() {
        *promised = Some((hyper::upgrade::on(request), upstream));
    }
    Ok(Response::new(Either::Right(Full::default())))
}

async fn forward(mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    if request.uri().scheme_str() != Some("http") {
        return Err(Refusal::BadRequest);
    }
    let authority = request.uri().authority().ok_or(Refusal::BadRequest)?.clone();
    let upstream = connect(&authority, authority.port_u16().unwrap_or(80)).await?;
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let host = host.parse().map_err(|_| Refusal::BadRequest)?;
    let path = request.uri().path_and_query().cloned().ok_or(Refusal::BadRequest)?;
    *request.uri_mut() = Uri::from(path);
    sanitise(request.headers_mut());
    request.headers_mut().insert(header::HOST, host);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await?;
    sanitise(response.headers_mut());
    Ok(response.map(Either::Left))
}

/// Removes what belongs to one hop (RFC 9110 §7.6.1), and what tells where the sandbox is.
fn sanitise(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let fixed = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    for name in fixed.iter().copied().chain(named.iter().map(String::as_str)) {
        headers.remove(name);
    }
}

async fn connect(authority: &Authority, port: u16) -> Result<TcpStream, Refusal> {
    if port == MAIL_EXCHANGE {
        return Err(Refusal::Port);
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let attempt = async {
        let found = tokio::net::lookup_host((host, port)).await.map_err(Refusal::Upstream)?;
        let taken = reachable(found);
        if taken.is_empty() {
            return Err(Refusal::Address(host.to_owned()));
        }
        TcpStream::connect(taken.as_slice()).await.map_err(Refusal::Upstream)
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, attempt)
        .await
        .map_err(|_| Refusal::Upstream(io::ErrorKind::TimedOut.into()))??;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn reachable(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    found.filter(|at| address::may_reach(at.ip())).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn said(request: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    }

    #[tokio::test]
    async fn refuses_this_machine_by_name_and_number() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = open.local_addr().unwrap().port();
        for host in
            ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "0x7f000001"]
        {
            let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
            let absolute = format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
            );
            for request in [connect, absolute] {
                let answer = said(&request).await;
                // The odd spellings are a name to some resolvers, and then unknown.
                let is_refused = answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 502");
                assert!(is_refused, "{request}: {answer}");
            }
        }
        let untouched = tokio::time::timeout(Duration::from_millis(50), open.accept()).await;
        assert!(untouched.is_err());
    }

    #[tokio::test]
    async fn refuses_the_port_of_mail_servers_before_it_asks_for_the_name() {
        for request in
            ["CONNECT mx.invalid:25 HTTP/1.1\r\n\r\n", "GET http://mx.invalid:25/ HTTP/1.1\r\n\r\n"]
        {
            let answer = said(request).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("465 or 587"), "{answer}");
        }
    }

    #[tokio::test]
    async fn refuses_what_is_no_proxy_request() {
        assert!(said("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(
            said("GET https://example.com/ HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 400")
        );
    }

    #[test]
    fn strips_what_belongs_to_one_hop() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-Secret, keep-alive"),
            ("x-secret", "1"),
            ("proxy-authorization", "Basic x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        sanitise(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("accept"));
    }
}
