//! `/api/account/sessions`: where the account is signed in.

use axum::{extract::State, response::Response};
use http::StatusCode;
use reef_auth::Credential;
use reef_model::SessionId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Account, Caller},
    extract::{PageQuery, Path, Query},
    views::Session,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end))
}

/// Lists the account's sessions, newest first.
#[utoipa::path(
    get, path = "/api/account/sessions", operation_id = "listSessions", tag = "Account",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<Session>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let control = state.control();
    let rows = control.db().list_sessions(caller.tenant(), control.now(), page.page()?).await?;
    let current = match caller.identity().principal.credential {
        Credential::Session(id) => Some(id),
        Credential::Key(_) => None,
    };
    let view = |row| Session::of(row, current);
    Ok(page.answer("/api/account/sessions", rows, |row| row.id.as_uuid(), |_| true, view))
}

/// Ends a session: its cookie signs nobody in any more, its streams are closed within a second.
#[utoipa::path(
    delete, path = "/api/account/sessions/{id}", operation_id = "endSession", tag = "Account",
    params(("id" = SessionId, Path)),
    responses((status = 204, description = "It has ended.")),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn end(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Path(id): Path<SessionId>,
) -> ApiResult<StatusCode> {
    state.control().accounts().end_session(&caller.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
