//! Pages for people: no script, one style sheet. What they do goes through the same verbs as the API.

mod account;
mod documents;
mod home;
mod reference;
mod sign_in;

use axum::{
    Router,
    extract::{FromRequest, Request},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use reef_model::Timestamp;
use serde::de::DeserializeOwned;

use crate::{ApiError, ApiResult, ApiState};

const STYLE: &str = include_str!("reef.css");
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Returns the routes of all pages.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/assets/reef.css", get(style))
        .merge(home::routes())
        .merge(sign_in::routes())
        .merge(account::routes())
        .merge(documents::routes())
}

async fn style() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, STYLE).into_response()
}

/// Where a visitor is, for the links at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// Not known, or not looked for.
    Anybody,
    /// Signed in.
    SignedIn,
}

/// Returns a whole page.
pub(crate) fn page(title: &str, visitor: Visitor, body: Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Reef" }
                link rel="stylesheet" href="/assets/reef.css";
                link rel="icon" href="data:,";
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    div {
                        a.brand href="/" { "Reef" }
                        nav aria-label="Main" {
                            a href="/docs" { "Docs" } " · "
                            a href="/docs/reference" { "Reference" } " · "
                            @match visitor {
                                Visitor::Anybody => { a href="/account" { "Account" } " · " a href="/sign-in" { "Sign in" } }
                                Visitor::SignedIn => { a href="/account" { "Account" } }
                            }
                        }
                        @if visitor == Visitor::SignedIn {
                            form method="post" action="/sign-out" { button.quiet type="submit" { "Sign out" } }
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
        // What a signed-in person saw is not for the next one at the same machine.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
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
        p { a.button href="/account" { "Back to your account" } }
    };
    let mut response = page("Error", Visitor::Anybody, body);
    *response.status_mut() = status;
    response
}

/// A form that a browser posts.
pub(crate) struct Form<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        let form = axum::Form::from_request(request, state).await;
        let axum::Form(form) =
            form.map_err(|_| ApiError::invalid([("form", "fill it in again and send it".to_owned())]))?;
        Ok(Self(form))
    }
}

/// Reads a field that may be left empty.
pub(crate) fn filled(text: String) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns an instant for people to read.
pub(crate) fn when(at: Timestamp) -> String {
    // RFC 3339 without seconds: `2026-04-04 03:10 UTC`.
    format!("{} UTC", at.to_string()[..16].replace('T', " "))
}
