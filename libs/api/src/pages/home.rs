//! `/`: what this is.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::request::Parts;
use maud::html;

use super::page;
use crate::{ApiResult, ApiState, session};

pub(super) fn routes() -> Router<ApiState> {
    Router::new().route("/", get(home))
}

async fn home(State(state): State<ApiState>, parts: Parts) -> ApiResult<Response> {
    if session::identity(&parts, &state).await?.is_some() {
        return Ok(Redirect::to("/instances").into_response());
    }
    let origin = state.origin();
    let body = html! {
        h1 { "Your OpenClaw, hosted" }
        p.lead { "Make an instance, talk to its agent from a browser, a script or another agent. One key, one API." }
        p { a.button href="/sign-up" { "Create an account" } " " a href="/sign-in" { "or sign in" } }
        div.grid {
            div.card { h3 { "1. Account" } p { "Sign up and redeem your invite code in the app." } }
            div.card { h3 { "2. Key" } p { "Make an " code { "sk_live_" } " key for your scripts. It is shown once." } }
            div.card { h3 { "3. Answer" } p { "Create an instance and chat with it there, or stream the first answer with the lines below." } }
        }
        h2 { "From a terminal" }
        pre tabindex="0" { code {
            "curl -X POST \"" (origin) "/api/instances?wait=120\" \\\n"
            "  -H \"Authorization: Bearer YOUR_API_KEY\" -H \"Content-Type: application/json\" \\\n"
            "  -d '{\"invite_code\":\"YOUR_INVITE_CODE_IF_NEEDED\"}'\n\n"
            "curl -N -X POST " (origin) "/api/instances/INSTANCE_ID/chat/stream \\\n"
            "  -H \"Authorization: Bearer YOUR_API_KEY\" -H \"Content-Type: application/json\" \\\n"
            "  -d '{\"message\":\"Hello\"}'"
        } }
        h2 { "For agents" }
        p { "Start with " a href="/llms.txt" { "llms.txt" } ", the " a href="/agent.md" { "agent guide" } " or " a href="/api" { "GET /api" } "." }
    };
    Ok(page("Hosted OpenClaw", body))
}
