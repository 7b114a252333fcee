//! The HTTP API: routes, extractors, documents, pages, OpenAPI.
//!
//! A request passes the layers of [`router`], then extractors that carry the whole "who, and may they" (`caller.rs`),
//! then a thin handler that calls a verb of `reef-control` or passes the request on to a door. Errors of lower rooms get
//! their status in one file (`error.rs`). How to add a route is said in `routes/mod.rs`.

mod background;
mod bench;
mod caller;
mod context;
mod docs;
mod error;
mod extract;
mod forward;
mod idempotency;
mod instance_route;
mod limits;
mod listen;
mod openapi;
mod pages;
mod routes;
mod seats;
mod session;
mod sign_in;
mod state;
mod views;

/// Of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

use std::sync::Arc;

use axum::{Router, extract::Request, middleware::from_fn_with_state, routing::Route};
use http::{HeaderName, Method, header};
use reef_door::headers::IDEMPOTENCY_KEY;
use tower::{Service, layer::layer_fn, service_fn};
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

pub use crate::{
    error::{ApiError, ApiResult},
    limits::{Policy, RateLimits},
    listen::{Crowd, serve},
    openapi::{document, document_json, document_yaml},
    pages::WebApp,
    seats::Caps,
    state::{ApiParts, ApiState},
};

/// Returns the whole public surface.
pub fn router(state: ApiState) -> Router {
    let (api, document) = OpenApiRouter::new().merge(routes::all()).split_for_parts();
    let api = api.method_not_allowed_fallback(error::no_such_method);
    // Before CORS, so that a preflight is not taken for a wrong method.
    let for_browsers = complete(api.clone().layer(cors()), |all| all.layer(session::layer(&state)), &state);
    let needs = Arc::new(openapi::needs(document));
    let remember = from_fn_with_state((state.clone(), needs), idempotency::remember);
    let named = api.clone().route_layer(remember).layer(cors());
    let for_named = complete(named, |all| all.layer(session::layer(&state)), &state);
    let for_programs = complete(api, |all| all, &state);
    Router::new().fallback_service(service_fn(move |request: Request| {
        let request = without_trailing_slash(request);
        let routes = match () {
            () if request.headers().contains_key(IDEMPOTENCY_KEY) => &for_named,
            () if is_of_program(&request) => &for_programs,
            () => &for_browsers,
        };
        routes.clone().call(request)
    }))
}

/// Adds to the API what else there is, and the layers around everything.
fn complete(
    api: Router<ApiState>,
    layers: impl FnOnce(Router<ApiState>) -> Router<ApiState>,
    state: &ApiState,
) -> Router {
    let all = Router::new()
        .merge(api)
        .merge(pages::routes())
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method);
    let entered = state.clone();
    layers(all)
        .layer(layer_fn(move |route: Route| {
            let state = entered.clone();
            service_fn(move |request| context::enter(state.clone(), route.clone(), request))
        }))
        .with_state(state.clone())
}

/// Tells whether a program asks an instance for something with a key: what only browsers need can be left out.
fn is_of_program(request: &Request) -> bool {
    let headers = request.headers();
    request.uri().path().starts_with("/api/instances/")
        && headers.contains_key(header::AUTHORIZATION)
        && !headers.contains_key(header::COOKIE)
        && !headers.contains_key(header::ORIGIN)
}

/// Any origin may call with a key; cookies are not sent from other origins, since credentials are off.
fn cors() -> CorsLayer {
    let exposed = [
        "accept-ranges",
        "content-disposition",
        "content-range",
        "link",
        "location",
        "etag",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-next-cursor",
        "x-request-id",
        "idempotent-replayed",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::RANGE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(86_400))
}

/// `/api/` is `/api`.
fn without_trailing_slash<B>(mut request: http::Request<B>) -> http::Request<B> {
    let uri = request.uri();
    let path = uri.path();
    if path.len() > 1 && path.ends_with('/') {
        let plain = path.trim_end_matches('/');
        let plain = if plain.is_empty() { "/" } else { plain };
        let text = uri.query().map_or_else(|| plain.to_owned(), |query| format!("{plain}?{query}"));
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = text.parse().ok();
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}
