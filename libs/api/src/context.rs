//! The outermost layer: what every request gets, whatever route it takes.
//!
//! A request id, the client's address, a log span without secrets, the error body, rate-limit and security headers, and
//! a 500 where a handler panicked.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::Route,
};
use futures_util::FutureExt;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header};
use ipnet::IpNet;
use reef_door::headers::REQUEST_ID;
use reef_model::RequestId;
use tower::Service;
use tracing::{Instrument, Span};

use crate::{ApiError, ApiState, limits::RateState};

/// JSON bodies; chat bodies are bounded on their way to the door.
pub(crate) const MAX_JSON_BYTES: usize = 256 * 1024;
const MAX_REQUEST_ID_BYTES: usize = 128;
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);

/// What is known of a request before a route looks at it; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    request_id: HeaderValue,
    client: IpAddr,
    rate: OnceLock<RateState>,
}

impl RequestContext {
    pub(crate) fn of(headers: &HeaderMap, extensions: &Extensions, trusted: &[IpNet]) -> Self {
        let peer = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::from([127, 0, 0, 1]), |ConnectInfo(address)| address.ip());
        Self(Arc::new(Inner {
            request_id: request_id(headers),
            client: client_address(peer, headers, trusted),
            rate: OnceLock::new(),
        }))
    }

    /// Returns the request's id.
    pub(crate) fn request_id(&self) -> &str {
        // Only printable ASCII is taken.
        self.0.request_id.to_str().unwrap_or_default()
    }

    /// Returns the same, for a head.
    pub(crate) fn request_id_value(&self) -> &HeaderValue {
        &self.0.request_id
    }

    /// Returns the client's address.
    pub(crate) fn client(&self) -> IpAddr {
        self.0.client
    }

    /// Notes what is left of the caller's budget; the first policy that was asked is the one shown.
    pub(crate) fn set_rate(&self, rate: RateState) {
        let _ = self.0.rate.set(rate);
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(&X_REQUEST_ID)
        .filter(|value| {
            (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        })
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::try_from(RequestId::generate().to_string()).expect("ids are lower-case ASCII")
        })
}

/// Returns the last address that no trusted proxy could have been told by somebody else.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if trusted.is_empty() || !is_trusted(&peer) {
        return peer;
    }
    let claimed: Vec<_> = headers
        .get_all(&FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.trim().parse::<IpAddr>().map(|ip| ip.to_canonical()))
        .collect();
    let mut client = peer;
    for hop in claimed.into_iter().rev() {
        let Ok(ip) = hop else { break };
        client = ip;
        if !is_trusted(&ip) {
            break;
        }
    }
    client
}

/// The layer itself.
pub(crate) async fn enter(
    state: ApiState,
    mut route: Route,
    mut request: Request,
) -> Result<Response, Infallible> {
    let begun = Instant::now();
    DefaultBodyLimit::max(MAX_JSON_BYTES).apply(&mut request);
    let context = RequestContext::of(request.headers(), request.extensions(), state.trusted_proxies());
    request.extensions_mut().insert(context.clone());
    let wants_page = crate::pages::wants_page(&request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // The path alone: a query may hold a ticket.
    let span = || {
        tracing::info_span!(
            "request",
            id = context.request_id(),
            %method,
            path = uri.path(),
            client = %context.client(),
        )
    };
    // Making a span costs as much as reading the request: only where it is likely to be written.
    let around = if tracing::enabled!(tracing::Level::DEBUG) { span() } else { Span::none() };
    let path = request.extensions().get::<MatchedPath>().cloned();
    async {
        let served = AssertUnwindSafe(route.call(request)).catch_unwind().await;
        let Ok(mut response) = served.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Ok(ApiError::internal(format!("a handler panicked: {text}")).into_response())
        });
        let error = response.extensions_mut().remove::<ApiError>();
        if let Some(error) = &error {
            let id = context.request_id();
            let span = if around.is_none() { span() } else { Span::none() };
            let rendered =
                span.in_scope(|| if wants_page { error.render_page(id) } else { error.render(id) });
            response = with_body(response, rendered);
        }
        finish(&state, &context, error.as_ref().and_then(ApiError::rate), &mut response);
        let took = begun.elapsed();
        tracing::debug!(status = response.status().as_u16(), took_us = took.as_micros() as u64, "answered");
        metrics::histogram!(
            "reef_http_request_seconds",
            "method" => label(&method),
            "route" => path.as_ref().map_or_else(String::new, |path| path.as_str().to_owned()),
            "status" => response.status().as_str().to_owned(),
        )
        .record(took);
        Ok(response)
    }
    .instrument(around.clone())
    .await
}

/// Names a method in metrics; those that anybody can make up are one, since each label is kept for ever.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Puts the error's body into the answer; what routing and layers said of it (`Allow`, CORS) stays.
fn with_body(bare: Response, rendered: Response) -> Response {
    let (mut head, _) = bare.into_parts();
    let (rendered_head, body) = rendered.into_parts();
    head.status = rendered_head.status;
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(rendered_head.headers);
    Response::from_parts(head, body)
}

/// Writes what every answer has; `refused`: the budget that it was refused by.
fn finish(state: &ApiState, context: &RequestContext, refused: Option<&RateState>, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID.clone(), context.0.request_id.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        // Data, not a page: nothing of it may run or be framed.
        let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if state.origin().is_https() {
        let policy = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, policy);
    }
    if let Some(rate) = refused.or(context.0.rate.get()) {
        rate.write(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            })
            .collect()
    }

    #[test]
    fn believes_only_trusted_proxies() {
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let (proxy, stranger) = ("10.0.0.1".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let said = |text: &str| headers(&[("x-forwarded-for", text)]);
        let client = |peer, text: &str| client_address(peer, &said(text), &proxies).to_string();
        assert_eq!(client(proxy, "198.51.100.1"), "198.51.100.1");
        // What the client itself wrote comes first and is not believed.
        assert_eq!(client(proxy, "127.0.0.1, 198.51.100.1, 10.2.2.2"), "198.51.100.1");
        assert_eq!(client(proxy, "198.51.100.1, junk"), "10.0.0.1");
        assert_eq!(client(stranger, "198.51.100.1"), "192.0.2.9");
        assert_eq!(client_address(proxy, &said("198.51.100.1"), &[]).to_string(), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1".parse().unwrap(), "198.51.100.1"), "198.51.100.1");
    }

    #[test]
    fn a_made_up_method_is_no_label() {
        assert_eq!(label(&Method::PATCH), "PATCH");
        assert_eq!(label(&Method::from_bytes(b"ZZ17").unwrap()), "other");
    }

    #[test]
    fn takes_only_printable_request_ids() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert!(request_id(&headers(&[("x-request-id", bad)])).to_str().unwrap().starts_with("req_"));
        }
    }
}
