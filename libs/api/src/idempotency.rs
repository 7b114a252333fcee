//! `Idempotency-Key` on the routes that change something here: a repeated request is answered, not done again.
//!
//! Names are each credential's own. The first request under a name runs to its end even where its client goes away; its
//! answer is kept for a day if it was a success, and an error frees the name, since then nothing was done. Routes that
//! doors serve are remembered by doors.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reef_db::{DbError, NamedRequestRow, RequestAnswer, RequestClaim};
use reef_door::{
    ErrorCode,
    headers::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED},
};
use reef_model::{RequestId, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, interval_at};
use tracing::Instrument;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Identity, Need, authenticate, authorize, context_of},
    context::MAX_JSON_BYTES,
    extract::in_time,
    instance_route::{known, named},
    limits::{Policy, Subject},
};

const MAX_NAME_BYTES: usize = 255;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// After so long without a sign of life a run is taken for dead.
const STALE: Duration = Duration::from_secs(60);
const RENEWAL: Duration = Duration::from_secs(20);
/// Larger answers are not kept; no route of ours has any.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;
const ON_INSTANCE: &str = "/api/instances/{id}";
/// What doors serve, by the first part of the path that follows the instance's id.
const DOORS: [&str; 7] = ["chat", "files", "terminal", "vnc", "v1", "gateway", "openclaw"];

/// A field of an answer that is shown once: it is not kept, and a repeated request is answered without it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShownOnce(pub(crate) &'static str);

/// Tells whether requests to a route are remembered here. What proves who somebody is, is nothing to keep,
/// not even as a digest.
pub(crate) fn is_remembered(method: &Method, route: &str) -> bool {
    let is_doors = route
        .strip_prefix("/api/instances/{id}/")
        .is_some_and(|rest| DOORS.contains(&rest.split('/').next().unwrap_or_default()));
    let has_passwords = route.starts_with("/api/auth/") || route == "/api/account";
    !method.is_safe() && route.starts_with("/api/") && !has_passwords && !is_doors
}

/// Tells whether doors remember requests to a route; of chat each operation says that by itself. Raw bodies are not
/// remembered, and neither is what is streamed.
pub(crate) fn is_remembered_by_doors(method: &Method, route: &str) -> bool {
    let Some(rest) = route.strip_prefix(ON_INSTANCE).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    let is_used = ["files", "terminal", "vnc"].contains(&rest.split('/').next().unwrap_or_default());
    is_used && !method.is_safe() && *method != Method::PUT && !["files/archive", "files/url"].contains(&rest)
}

/// What it takes to reach the routes that are remembered, by method and path.
pub(crate) type Needs = Arc<HashMap<(Method, String), Need>>;

/// The layer itself.
pub(crate) async fn remember(
    State((state, needs)): State<(ApiState, Needs)>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let need = needs.get(&(request.method().clone(), route.to_owned())).copied();
    match need.filter(|_| request.headers().contains_key(IDEMPOTENCY_KEY)) {
        Some(need) => {
            let is_on_instance = route.starts_with(ON_INSTANCE);
            let answer = answer(state, need, is_on_instance, request, next).await;
            answer.unwrap_or_else(IntoResponse::into_response)
        }
        None => next.run(request).await,
    }
}

async fn answer(
    state: ApiState,
    need: Need,
    is_on_instance: bool,
    request: Request,
    next: Next,
) -> ApiResult<Response> {
    let name = name(request.headers())?;
    let (mut parts, body) = request.into_parts();
    // Who may not, learns and leaves nothing: neither by the body, nor by a name, nor by an answer from when they might.
    let instance = if is_on_instance { Some(named(&mut parts, &state).await?) } else { None };
    let identity = authenticate(&parts, &state, &context_of(&parts)?, instance).await?;
    authorize(&identity, need, instance)?;
    // Names are written: those that are refused or replayed count as well.
    state.limits().check(Policy::Named, &Subject::Credential(identity.credential_uuid()))?;
    if let Some(id) = instance {
        known(&state, identity.principal.tenant, id).await?;
    }
    let body = in_time(axum::body::to_bytes(body, MAX_JSON_BYTES))
        .await?
        .map_err(|_| ApiError::new(ErrorCode::PayloadTooLarge, "The body may have 256 KiB."))?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let fingerprint = fingerprint(&parts.method, target, &body);
    let now = state.control().now();
    let claim = claim_of(&identity, name, fingerprint, now);
    let mut tx = state.control().db().write().await?;
    let earlier = tx.claim_request(&claim, now - STALE).await?;
    tx.commit().await?;
    if let Some(earlier) = earlier {
        return replay(earlier, fingerprint);
    }
    let request = Request::from_parts(parts, Body::from(body));
    let run = async move {
        // Side by side: a renewal may wait for what the handler holds.
        let response = tokio::select! {
            response = next.run(request) => response,
            never = stay_alive(&state, &claim) => match never {},
        };
        keep(&state, &claim, response).await
    };
    // In a task of its own: a client that goes away ends nothing half-way.
    match tokio::spawn(run.in_current_span()).await {
        Ok(response) => Ok(response),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// Forgets answers that are no longer kept.
pub(crate) async fn reap(state: &ApiState) -> Result<(), DbError> {
    let mut tx = state.control().db().write().await?;
    tx.reap_named_requests(state.control().now()).await?;
    tx.commit().await
}

fn name(headers: &HeaderMap) -> ApiResult<String> {
    let mut names = headers.get_all(IDEMPOTENCY_KEY).iter();
    let name = names.next().and_then(|name| name.to_str().ok());
    let name = name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()) && names.next().is_none());
    name.map(str::to_owned).ok_or_else(|| {
        ApiError::invalid([("Idempotency-Key", "give it once, 1 to 255 printable characters".to_owned())])
            .with_status(StatusCode::BAD_REQUEST)
    })
}

fn fingerprint(method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [method.as_str().as_bytes(), b" ", target.as_bytes(), b"\n", body] {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn claim_of(identity: &Identity, name: String, fingerprint: [u8; 32], now: Timestamp) -> RequestClaim {
    RequestClaim {
        credential_id: identity.credential_uuid(),
        name,
        user_id: identity.principal.tenant,
        fingerprint,
        claim: RequestId::generate().as_uuid(),
        claimed_at: now,
        expires_at: now + KEPT_FOR,
    }
}

/// Returns the answer to an earlier request of the same name.
fn replay(earlier: NamedRequestRow, fingerprint: [u8; 32]) -> ApiResult<Response> {
    if earlier.fingerprint != fingerprint {
        let message = "This Idempotency-Key was used for another request: use a new one.".to_owned();
        return Err(ApiError::invalid([("Idempotency-Key", message)]));
    }
    let (Some(status), Some(body)) = (earlier.status, earlier.body) else {
        let message = "A request with this Idempotency-Key still runs: repeat it in a moment.";
        return Err(ApiError::new(ErrorCode::Conflict, message).with_retry_after(2));
    };
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.ok_or_else(|| ApiError::internal("a kept answer without a status"))?;
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(IDEMPOTENT_REPLAYED), HeaderValue::from_static("true"));
    for (name, value) in [(header::LOCATION, earlier.location), (header::ETAG, earlier.etag)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.into();
    }
    Ok(response)
}

/// Keeps a success, without what is shown once; anything else frees the name.
async fn keep(state: &ApiState, claim: &RequestClaim, response: Response) -> Response {
    let is_small = response.body().size_hint().upper().is_some_and(|size| size <= MAX_ANSWER_BYTES);
    if !response.status().is_success() || !is_small {
        note(release(state, claim).await);
        return response;
    }
    let (head, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_ANSWER_BYTES as usize).await else {
        note(release(state, claim).await);
        return ApiError::internal("an answer of ours broke off").into_response();
    };
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let answer = RequestAnswer {
        status: i64::from(head.status.as_u16()),
        location: text(header::LOCATION),
        etag: text(header::ETAG),
        body: without(&body, head.extensions.get::<ShownOnce>().copied()),
    };
    let kept = async {
        let mut tx = state.control().db().write().await?;
        tx.answer_request(claim, &answer).await?;
        tx.commit().await
    };
    note(kept.await);
    Response::from_parts(head, Body::from(body))
}

fn without(body: &Bytes, shown_once: Option<ShownOnce>) -> Vec<u8> {
    let Some(ShownOnce(field)) = shown_once else { return body.to_vec() };
    let mut value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
    value.to_string().into_bytes()
}

async fn stay_alive(state: &ApiState, claim: &RequestClaim) -> Infallible {
    let mut signs_of_life = interval_at(Instant::now() + RENEWAL, RENEWAL);
    loop {
        signs_of_life.tick().await;
        renew(state, claim).await;
    }
}

async fn renew(state: &ApiState, claim: &RequestClaim) {
    let renewed = async {
        let mut tx = state.control().db().write().await?;
        tx.renew_request(claim, state.control().now()).await?;
        tx.commit().await
    };
    note(renewed.await);
}

async fn release(state: &ApiState, claim: &RequestClaim) -> Result<(), DbError> {
    let mut tx = state.control().db().write().await?;
    tx.release_request(claim).await?;
    tx.commit().await
}

/// The request itself is answered; a repetition will be told that it still runs, for at most a minute.
fn note(outcome: Result<(), DbError>) {
    if let Err(error) = outcome {
        tracing::warn!(error = &error as &dyn std::error::Error, "a named request is not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_changed_here_is_remembered() {
        for route in ["/api/keys", "/api/instances", "/api/instances/{id}", "/api/instances/{id}/start"] {
            assert!(is_remembered(&Method::POST, route), "{route}");
            assert!(!is_remembered(&Method::GET, route), "{route}");
        }
        for route in [
            "/api/auth/login",
            "/api/account",
            "/api/instances/{id}/chat",
            "/api/instances/{id}/files/url",
            "/docs",
        ] {
            assert!(!is_remembered(&Method::POST, route), "{route}");
        }
    }

    #[test]
    fn doors_remember_what_is_done_in_an_instance() {
        for (method, rest, expected) in [
            (Method::POST, "terminal/exec", true),
            (Method::DELETE, "files", true),
            (Method::DELETE, "terminal/sessions/{tid}", true),
            (Method::POST, "vnc/input", true),
            (Method::GET, "files", false),
            (Method::PUT, "files/content", false),
            (Method::POST, "files/archive", false),
            (Method::POST, "files/url", false),
            (Method::POST, "start", false),
        ] {
            let route = format!("/api/instances/{{id}}/{rest}");
            assert_eq!(is_remembered_by_doors(&method, &route), expected, "{method} {rest}");
        }
    }

    #[test]
    fn what_is_shown_once_is_not_kept() {
        let body = Bytes::from_static(b"{\"id\":\"key_1\",\"secret\":\"sk_live_x\"}");
        assert_eq!(without(&body, Some(ShownOnce("secret"))), b"{\"id\":\"key_1\"}");
        assert_eq!(without(&body, None), body);
    }
}
