//! `GET /api`: where everything is.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, extract::Json};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(index))
}

/// Names and paths of everything.
#[derive(Serialize, ToSchema)]
pub(crate) struct Index {
    /// `Reef`.
    name: &'static str,
    /// Of this build.
    version: &'static str,
    /// Where to read on.
    documentation: Documentation,
    /// How to prove who you are.
    authentication: Authentication,
    /// Paths by resource; `{…}` is to be filled in.
    resources: Resources,
}

/// Where to read on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Documentation {
    llms_txt: String,
    llms_full_txt: String,
    openapi_json: String,
    openapi_yaml: String,
    quick_start: String,
    reference: String,
    agent_guide: String,
    errors: String,
}

/// How to prove who you are.
#[derive(Serialize, ToSchema)]
pub(crate) struct Authentication {
    /// `bearer`.
    r#type: &'static str,
    /// What to send.
    header: &'static str,
    /// Where people make keys.
    create_key: String,
    /// What a key may do.
    current_key: &'static str,
}

/// Paths by resource.
#[derive(Serialize, ToSchema)]
pub(crate) struct Resources {
    instances: &'static str,
    instance: &'static str,
    instance_status: &'static str,
    instance_events: &'static str,
    start: &'static str,
    stop: &'static str,
    restart: &'static str,
    restore: &'static str,
    logs: &'static str,
    chat: &'static str,
    chat_stream: &'static str,
    chat_sessions: &'static str,
    chat_messages: &'static str,
    chat_events: &'static str,
    chat_turn: &'static str,
    files: &'static str,
    file_content: &'static str,
    file_url: &'static str,
    exec: &'static str,
    terminal: &'static str,
    desktop: &'static str,
    desktop_screenshot: &'static str,
    desktop_input: &'static str,
    operations: &'static str,
    events: &'static str,
    account: &'static str,
    keys: &'static str,
    invites: &'static str,
    plans: &'static str,
    usage: &'static str,
    audit: &'static str,
}

/// Tells where everything is; no key needed.
#[utoipa::path(
    get, path = "/api", operation_id = "index", tag = "Discovery",
    responses((status = 200, description = "The index.", body = Index)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn index(State(state): State<ApiState>) -> Json<Index> {
    let origin = state.origin();
    let at = |path: &str| format!("{origin}{path}");
    Json(Index {
        name: "Reef",
        version: crate::VERSION,
        documentation: Documentation {
            llms_txt: at("/llms.txt"),
            llms_full_txt: at("/llms-full.txt"),
            openapi_json: at("/openapi.json"),
            openapi_yaml: at("/openapi.yaml"),
            quick_start: at("/docs"),
            reference: at("/docs/reference"),
            agent_guide: at("/agent.md"),
            errors: at("/docs/guides/errors"),
        },
        authentication: Authentication {
            r#type: "bearer",
            header: "Authorization: Bearer sk_live_...",
            create_key: at("/account"),
            current_key: "/api/keys/current",
        },
        resources: Resources {
            instances: "/api/instances",
            instance: "/api/instances/{id}",
            instance_status: "/api/instances/{id}/status",
            instance_events: "/api/instances/{id}/events",
            start: "/api/instances/{id}/start",
            stop: "/api/instances/{id}/stop",
            restart: "/api/instances/{id}/restart",
            restore: "/api/instances/{id}/restore",
            logs: "/api/instances/{id}/logs",
            chat: "/api/instances/{id}/chat",
            chat_stream: "/api/instances/{id}/chat/stream",
            chat_sessions: "/api/instances/{id}/chat/sessions",
            chat_messages: "/api/instances/{id}/chat/messages",
            chat_events: "/api/instances/{id}/chat/events",
            chat_turn: "/api/instances/{id}/chat/turns/{turn_id}",
            files: "/api/instances/{id}/files",
            file_content: "/api/instances/{id}/files/content",
            file_url: "/api/instances/{id}/files/url",
            exec: "/api/instances/{id}/terminal/exec",
            terminal: "/api/instances/{id}/terminal/ws",
            desktop: "/api/instances/{id}/vnc/ws",
            desktop_screenshot: "/api/instances/{id}/vnc/screenshot",
            desktop_input: "/api/instances/{id}/vnc/input",
            operations: "/api/operations/{id}",
            events: "/api/events",
            account: "/api/account",
            keys: "/api/keys",
            invites: "/api/invites/redeem",
            plans: "/api/plans",
            usage: "/api/usage",
            audit: "/api/audit",
        },
    })
}
