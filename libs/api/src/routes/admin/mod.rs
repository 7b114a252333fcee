//! `/api/admin`: the operator's own.

mod instances;
mod tasks;
mod users;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use reef_control::account::InviteTerms;
use reef_model::{InviteId, Plan, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, Operator},
    extract::{Json, PageQuery, Path, Query},
    idempotency::ShownOnce,
    routes::account::AuditQuery,
    views::{AuditRecord, Invite, MintedInvite, WaitingMail},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_invites, create_invite))
        .routes(routes!(revoke_invite))
        .routes(routes!(audit))
        .routes(routes!(mails))
        .merge(tasks::routes())
        .merge(users::routes())
        .merge(instances::routes())
}

/// Lists all invites, newest first.
#[utoipa::path(
    get, path = "/api/admin/invites", operation_id = "listInvites", tag = "Operator",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<Invite>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn list_invites(
    _caller: Caller<Operator>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_invites(page.page()?).await?;
    Ok(page.answer("/api/admin/invites", rows, |row| row.id.as_uuid(), |_| true, Invite::from))
}

/// What an invite gives, and how often.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateInviteBody {
    /// The plan of the instances that it lets be made; left out: `solo`.
    #[serde(default = "solo")]
    plan: Plan,
    /// How often it may be redeemed; left out: once.
    #[serde(default = "once")]
    #[schema(minimum = 1)]
    max_uses: i64,
    /// When it ends; left out: never.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// An address that the code is mailed to.
    #[serde(default)]
    email: Option<String>,
}

fn solo() -> Plan {
    Plan::Solo
}

fn once() -> i64 {
    1
}

/// Makes an invite. Its code is in this answer and never shown again.
#[utoipa::path(
    post, path = "/api/admin/invites", operation_id = "createInvite", tag = "Operator",
    request_body(content = CreateInviteBody, example = json!({"plan": "solo", "max_uses": 5})),
    responses((status = 201, description = "The invite and its code.", body = MintedInvite)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn create_invite(
    caller: Caller<Operator>,
    State(state): State<ApiState>,
    Json(body): Json<CreateInviteBody>,
) -> ApiResult<Response> {
    let terms = InviteTerms { plan: body.plan, max_uses: body.max_uses, expires_at: body.expires_at };
    let (accounts, actor) = (state.control().accounts(), caller.actor());
    let (row, code) = match &body.email {
        Some(email) => accounts.send_invite(&actor, terms, email).await?,
        None => accounts.create_invite(&actor, terms).await?,
    };
    let minted = MintedInvite { invite: row.into(), code: code.expose().to_owned() };
    Ok((StatusCode::CREATED, Extension(ShownOnce("code")), Json(minted)).into_response())
}

/// Withdraws an invite; what it gave already stays.
#[utoipa::path(
    delete, path = "/api/admin/invites/{id}", operation_id = "revokeInvite", tag = "Operator",
    params(("id" = InviteId, Path)),
    responses((status = 204, description = "It is withdrawn.")),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn revoke_invite(
    caller: Caller<Operator>,
    State(state): State<ApiState>,
    Path(id): Path<InviteId>,
) -> ApiResult<StatusCode> {
    state.control().accounts().revoke_invite(&caller.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists what was done in all accounts, newest first.
#[utoipa::path(
    get, path = "/api/admin/audit", operation_id = "listAllAudit", tag = "Operator",
    params(AuditQuery, PageQuery),
    responses((status = 200, description = "One page.", body = Vec<AuditRecord>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn audit(
    _caller: Caller<Operator>,
    State(state): State<ApiState>,
    Query(wanted): Query<AuditQuery>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let path = wanted.on("/api/admin/audit");
    let rows = state.control().db().list_audit_any(&wanted.into(), page.page()?).await?;
    Ok(page.answer(&path, rows, |row| row.id.as_uuid(), |_| true, AuditRecord::from))
}

/// Lists the mail that is not sent, newest first: what waits, and what was given up in the last 30 days.
#[utoipa::path(
    get, path = "/api/admin/mails", operation_id = "listMails", tag = "Operator",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<WaitingMail>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn mails(
    _caller: Caller<Operator>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_mails_any(page.page()?).await?;
    Ok(page.answer("/api/admin/mails", rows, |row| row.id.as_uuid(), |_| true, WaitingMail::from))
}
