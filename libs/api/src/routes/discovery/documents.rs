//! `/llms.txt` and its like, and the document of the API itself.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, docs};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(llms))
        .routes(routes!(llms_full))
        .routes(routes!(llms_full_md))
        .routes(routes!(agent))
        .routes(routes!(openapi_json))
        .routes(routes!(openapi_yaml))
        .routes(routes!(api_openapi_json))
        .routes(routes!(api_openapi_yaml))
}

fn text(kind: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, body).into_response()
}

const PLAIN: &str = "text/plain; charset=utf-8";
const MARKDOWN: &str = "text/markdown; charset=utf-8";

macro_rules! documents {
    ($($(#[$doc:meta])* $name:ident at $path:literal as $id:literal, $kind:literal = |$state:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(
            get, path = $path, operation_id = $id, tag = "Discovery",
            responses((status = 200, description = "The text.", body = String, content_type = $kind)),
            extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
        )]
        async fn $name(State($state): State<ApiState>) -> Response {
            $body
        }
    )*};
}

documents! {
    /// The index for programs that read.
    llms at "/llms.txt" as "llmsTxt", "text/plain" = |state| text(PLAIN, docs::LLMS.text(state.origin().as_str()));
    /// All documents in one text.
    llms_full at "/llms-full.txt" as "llmsFullTxt", "text/plain" = |state| text(PLAIN, docs::full(state.origin().as_str()));
    /// All documents in one text.
    llms_full_md at "/llms-full.md" as "llmsFullMd", "text/markdown" = |state| text(MARKDOWN, docs::full(state.origin().as_str()));
    /// How to work with an instance, for agents.
    agent at "/agent.md" as "agentGuide", "text/markdown" = |state| text(MARKDOWN, docs::AGENT.text(state.origin().as_str()));
    /// This document, YAML.
    openapi_yaml at "/openapi.yaml" as "openapiYaml", "application/yaml" = |state| text("application/yaml", state.rendered().yaml.clone());
    /// This document, YAML.
    api_openapi_yaml at "/api/openapi.yaml" as "apiOpenapiYaml", "application/yaml" = |state| text("application/yaml", state.rendered().yaml.clone());
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapiJson", tag = "Discovery",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn openapi_json(State(state): State<ApiState>) -> Response {
    text("application/json", state.rendered().json.clone())
}

/// This document.
#[utoipa::path(
    get, path = "/api/openapi.json", operation_id = "apiOpenapiJson", tag = "Discovery",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn api_openapi_json(State(state): State<ApiState>) -> Response {
    text("application/json", state.rendered().json.clone())
}
