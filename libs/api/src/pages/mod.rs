//! Pages for people: the browser app, and what needs no script, with one style sheet.

mod app;
mod documents;
mod home;
mod reference;

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

pub use self::app::WebApp;
use crate::{ApiError, ApiState};

/// The palette is the app's.
const STYLE: &str =
    concat!(include_str!("../../../../apps/web/src/styles/tokens.css"), include_str!("reef.css"));
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Returns the routes of all pages.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/assets/reef.css", get(style))
        .merge(home::routes())
        .merge(app::routes())
        .merge(documents::routes())
}

async fn style() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, STYLE).into_response()
}

/// Returns a whole page.
pub(crate) fn page(title: &str, body: Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Reef" }
                link rel="stylesheet" href="/assets/reef.css";
                link rel="icon" href="/favicon.svg";
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    div {
                        a.brand href="/" { "Reef" }
                        nav aria-label="Main" {
                            a href="/docs" { "Docs" } " · "
                            a href="/docs/reference" { "Reference" } " · "
                            a href="/instances" { "Open the app" }
                        }
                    }
                }
                main id="main" { (body) }
                footer { "Reef " (crate::VERSION) " · " a href="/llms.txt" { "llms.txt" } " · " a href="/openapi.json" { "OpenAPI" } }
            }
        }
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, markup).into_response()
}

/// Tells whether an error should be a page: a browser that navigates.
pub(crate) fn wants_page(request: &Request) -> bool {
    let accepts = |headers: &HeaderMap| {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept.contains("text/html")
    };
    !request.uri().path().starts_with("/api") && accepts(request.headers())
}

/// Shows an error to a person; who is not signed in is asked to.
pub(crate) fn error_page(error: &ApiError, status: StatusCode, request_id: &str) -> Response {
    if status == StatusCode::UNAUTHORIZED {
        return Redirect::to("/sign-in").into_response();
    }
    let body = html! {
        h1 { "That did not work" }
        p.lead { (error.message()) }
        p { a href={ "/docs/errors/" (error.code().as_str()) } { (error.code().as_str()) } }
        p.soft { "Request " code { (request_id) } }
        p { a.button href="/instances" { "Back to your instances" } }
    };
    let mut response = page("Error", body);
    *response.status_mut() = status;
    response
}
