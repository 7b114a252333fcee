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
/// Keeps to the appearance that was chosen in the app, and lets it be chosen.
const THEME: &str = include_str!("../../../../apps/web/src/docs/theme.js");
/// Makes the reference's operations forms that send.
const TRY: &str = include_str!("../../../../apps/web/src/docs/try.js");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Returns the routes of all pages.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/assets/reef.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/assets/theme.js", get(async || file("text/javascript; charset=utf-8", THEME)))
        .route("/assets/try.js", get(async || file("text/javascript; charset=utf-8", TRY)))
        .merge(home::routes())
        .merge(app::routes())
        .merge(documents::routes())
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, text).into_response()
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
                // Before anything is drawn, so that nothing changes its colour later.
                script src="/assets/theme.js" {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    div {
                        a.brand href="/" aria-label="Reef, start page" { (mark()) "Reef" }
                        nav aria-label="Main" {
                            a href="/docs" { "Docs" }
                            a href="/docs/reference" { "Reference" }
                            a href="/instances" { "Open the app" }
                        }
                        select id="theme" aria-label="Appearance" hidden {
                            option value="system" { "System" }
                            option value="light" { "Light" }
                            option value="dark" { "Dark" }
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

/// The mark, as the app draws it.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 32 32" aria-hidden="true" {
            rect width="32" height="32" rx="8" {}
            path d="M7 21c3 0 3-3 6-3s3 3 6 3 3-3 6-3M7 15c3 0 3-3 6-3s3 3 6 3 3-3 6-3" {}
        }
    }
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
