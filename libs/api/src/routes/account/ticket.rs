//! `POST /api/auth/ticket`: what a browser opens a socket or an event stream with.

use axum::extract::State;
use reef_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Anyone, Caller},
    extract::Json,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(issue))
}

/// What the ticket is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketBody {
    /// The path that it opens.
    #[schema(example = "/api/events")]
    route: String,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
pub(crate) struct TicketView {
    /// For the query: `?ticket=`.
    ticket: String,
    /// When it ends.
    expires_at: Timestamp,
}

/// Makes a ticket for one path: good once, for 30 seconds, with the rights of the session that asks.
#[utoipa::path(
    post, path = "/api/auth/ticket", operation_id = "createTicket", tag = "Account",
    request_body(content = TicketBody),
    responses((status = 200, description = "The ticket.", body = TicketView)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn issue(
    caller: Caller<Anyone>,
    State(state): State<ApiState>,
    Json(body): Json<TicketBody>,
) -> ApiResult<Json<TicketView>> {
    if !body.route.starts_with("/api/") || body.route.contains(['?', '#']) {
        return Err(ApiError::invalid([("route", "give a path below /api/, without a query".to_owned())]));
    }
    let credential = caller.identity().principal.credential;
    let now = state.control().now();
    let (ticket, expires_at) = state.tickets().issue(caller.tenant(), credential, &body.route, now);
    Ok(Json(TicketView { ticket, expires_at }))
}
