//! The listener: connections let in, counted by address, and served. HTTP/1.1 alone: behind a proxy nothing else comes,
//! and it is the quickest.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use reef_proxy::Patient;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// How long a client may take to send a request's head, and a kept connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take nothing of what waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// After an error of the machine, most often too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there are from each address; of IPv6 from each /64, which one customer has.
#[derive(Clone)]
pub struct Crowd {
    most: u32,
    /// All clients of a proxy come from its address.
    exempt: Vec<IpNet>,
    here: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Crowd {
    /// Lets `most` connections in from one address, and any number from `exempt` ones.
    pub fn new(most: u32, exempt: Vec<IpNet>) -> Self {
        Self { most, exempt, here: Arc::default() }
    }

    fn enter(&self, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        let crowd = self.clone();
        if self.most == u32::MAX || self.exempt.iter().any(|net| net.contains(&peer)) {
            return Some(Place { crowd, peer: None });
        }
        let bits = if peer.is_ipv6() { 64 } else { 32 };
        let peer = IpNet::new(peer, bits).map_or(peer, |net| net.trunc().addr());
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(peer).or_default();
        (*count < self.most).then(|| {
            *count += 1;
            Place { crowd, peer: Some(peer) }
        })
    }
}

/// One connection of a [`Crowd`].
struct Place {
    crowd: Crowd,
    peer: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut here = self.crowd.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                here.remove(&peer);
            }
        }
    }
}

/// Serves until `stop`; then open connections finish what they are at. Returns a tracker of them at once.
pub fn serve(listener: TcpListener, router: Router, crowd: Crowd, stop: CancellationToken) -> TaskTracker {
    let connections = TaskTracker::new();
    let tracker = connections.clone();
    connections.spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = crowd.enter(peer.ip()) else {
                        tracing::debug!(%peer, "too many connections from this address");
                        continue;
                    };
                    let conversation = converse(stream, peer, router.clone(), stop.clone());
                    tracker.spawn(async move {
                        conversation.await;
                        drop(place);
                    });
                }
                Err(error) if is_of_the_connection(error.kind()) => {}
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tracker.close();
    });
    connections
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(Patient::new(stream, PATIENCE)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Tells whether the one connection failed, not the listener.
fn is_of_the_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_fill_the_house() {
        let crowd = Crowd::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let enter = |peer: &str| crowd.enter(peer.parse().unwrap());
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        let proxied: Vec<_> = (0..9).map(|_| enter("10.1.2.3").unwrap()).collect();
        drop((first, proxied));
        assert!(enter("192.0.2.1").is_some());
        assert_eq!(crowd.here.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_customer_of_ipv6_is_one_address() {
        let crowd = Crowd::new(1, Vec::new());
        let enter = |peer: &str| crowd.enter(peer.parse().unwrap());
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }
}
