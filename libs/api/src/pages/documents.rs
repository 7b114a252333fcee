//! `/docs`: the quick start, the guides, the error pages; each also as Markdown.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;
use maud::{PreEscaped, html};
use reef_door::ErrorCode;

use super::{page, reference};
use crate::{
    ApiResult, ApiState,
    docs::{Document, GUIDES, QUICK_START, error_page},
    error::no_such_path,
    extract::Path,
};

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/docs", get(quick_start))
        .route("/docs.md", get(quick_start_md))
        .route("/docs/guides/{name}", get(guide))
        .route("/docs/errors/{code}", get(error))
        .route("/docs/reference", get(reference::show))
        .route("/docs/reference.md", get(reference::markdown))
}

async fn quick_start(State(state): State<ApiState>) -> Response {
    show(&state, QUICK_START)
}

async fn quick_start_md(State(state): State<ApiState>) -> Response {
    markdown(QUICK_START.text(state.origin().as_str()))
}

async fn guide(State(state): State<ApiState>, name: Path<String>) -> ApiResult<Response> {
    let find = |wanted: &str| GUIDES.iter().find(|(name, _)| *name == wanted).map(|(_, document)| *document);
    answer(&state, &name.0, find).await
}

async fn error(State(state): State<ApiState>, code: Path<String>) -> ApiResult<Response> {
    let find = |wanted: &str| {
        ErrorCode::ALL.iter().find(|code| code.as_str() == wanted).map(|code| error_page(*code))
    };
    answer(&state, &code.0, find).await
}

async fn answer(
    state: &ApiState,
    name: &str,
    find: impl Fn(&str) -> Option<Document>,
) -> ApiResult<Response> {
    if let Some(document) = name.strip_suffix(".md").and_then(&find) {
        return Ok(markdown(document.text(state.origin().as_str())));
    }
    match find(name) {
        Some(document) => Ok(show(state, document)),
        None => Err(no_such_path().await),
    }
}

fn show(state: &ApiState, document: Document) -> Response {
    // Our own text: nothing in it is a tenant's.
    let body = html! {
        div.split {
            nav aria-label="Guides" {
                ul {
                    @for (name, guide) in GUIDES {
                        @let is_here = guide.title() == document.title();
                        li { a href={ "/docs/guides/" (name) } aria-current=[is_here.then_some("page")] { (guide.title()) } }
                    }
                    li { a href="/docs/reference" { "API reference" } }
                }
            }
            article { (PreEscaped(document.html(state.origin().as_str()))) }
        }
    };
    page(document.title(), body)
}

pub(super) fn markdown(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response()
}
