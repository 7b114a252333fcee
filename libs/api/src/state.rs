//! What every handler has at hand.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use ipnet::IpNet;
use reef_auth::Tickets;
use reef_config::Origin;
use reef_control::Control;
use reef_proxy::Pipe;
use reef_worker::Workers;
use tokio_util::sync::CancellationToken;

use crate::{
    caller::CallerCache,
    forward::DoorDialer,
    limits::RateLimits,
    openapi::Rendered,
    pages::WebApp,
    seats::{Caps, Seats},
    sign_in::Familiar,
};

/// What the API is made of; the composition root chooses each.
pub struct ApiParts {
    /// The verbs.
    pub control: Control,
    /// Gives out and takes tickets.
    pub tickets: Tickets,
    /// The public origin.
    pub origin: Origin,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How often who may do what.
    pub limits: RateLimits,
    /// How much at once.
    pub caps: Caps,
    /// Work in the background, of which the API tells how it goes.
    pub workers: Workers,
    /// The built browser app.
    pub web: WebApp,
}

/// [`ApiParts`] and what grows with use; cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

struct Inner {
    parts: ApiParts,
    pipe: Pipe<Body>,
    callers: CallerCache,
    seats: Seats,
    familiar: Familiar,
    begun: Instant,
    is_draining: AtomicBool,
    ending: CancellationToken,
    rendered: OnceLock<Rendered>,
}

impl ApiState {
    /// Puts the parts together.
    pub fn new(parts: ApiParts) -> Self {
        Self(Arc::new(Inner {
            pipe: Pipe::new(DoorDialer(parts.control.clone())),
            callers: CallerCache::default(),
            seats: Seats::new(parts.caps),
            familiar: Familiar::default(),
            begun: Instant::now(),
            is_draining: AtomicBool::new(false),
            ending: CancellationToken::new(),
            rendered: OnceLock::new(),
            parts,
        }))
    }

    /// Begins a stop: says no at `/readyz` and goes on serving for `delay`, while load balancers look elsewhere, then
    /// cancels `closing`, which the listener watches, and ends the streams that are ours and every WebSocket; what doors
    /// stream goes on. Who cancels `closing` meanwhile cuts the delay short.
    pub async fn drain(&self, delay: Duration, closing: &CancellationToken) {
        self.0.is_draining.store(true, Ordering::Release);
        let _ = tokio::time::timeout(delay, closing.cancelled()).await;
        closing.cancel();
        self.0.ending.cancel();
        self.0.pipe.hang_up();
    }

    /// Waits until every WebSocket is gone: the last act of a stop.
    pub async fn close(&self) {
        self.0.pipe.close().await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    /// Returns what is cancelled when streams of ours must end.
    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.0.ending
    }

    pub(crate) fn control(&self) -> &Control {
        &self.0.parts.control
    }

    pub(crate) fn tickets(&self) -> &Tickets {
        &self.0.parts.tickets
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.0.parts.origin
    }

    pub(crate) fn trusted_proxies(&self) -> &[IpNet] {
        &self.0.parts.trusted_proxies
    }

    pub(crate) fn limits(&self) -> &RateLimits {
        &self.0.parts.limits
    }

    pub(crate) fn web(&self) -> &WebApp {
        &self.0.parts.web
    }

    pub(crate) fn pipe(&self) -> &Pipe<Body> {
        &self.0.pipe
    }

    pub(crate) fn callers(&self) -> &CallerCache {
        &self.0.callers
    }

    pub(crate) fn seats(&self) -> &Seats {
        &self.0.seats
    }

    pub(crate) fn familiar(&self) -> &Familiar {
        &self.0.familiar
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.0.parts.workers
    }

    pub(crate) fn begun(&self) -> Instant {
        self.0.begun
    }

    pub(crate) fn rendered(&self) -> &Rendered {
        self.0.rendered.get_or_init(|| Rendered::of(&crate::document()))
    }
}
