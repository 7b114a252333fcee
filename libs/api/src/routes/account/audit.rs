//! `GET /api/audit`: what was done in the account.

use axum::{extract::State, response::Response};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Account, Caller},
    extract::{PageQuery, Query},
    views::AuditRecord,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists what was done in the account, newest first.
#[utoipa::path(
    get, path = "/api/audit", operation_id = "listAudit", tag = "Account",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<AuditRecord>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_audit(caller.tenant(), page.page()?).await?;
    Ok(page.answer("/api/audit", rows, |row| row.id.as_uuid(), |_| true, AuditRecord::from))
}
