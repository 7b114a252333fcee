//! `POST /api/invites/redeem` and what came of it.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Account, Caller},
    extract::{Json, PageQuery, Query},
    limits::{Policy, Subject},
    views::Entitlement,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(redeem)).routes(routes!(entitlements))
}

/// An invite code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedeemBody {
    /// The code, as it was given to you.
    code: String,
}

/// Redeems an invite code: the account may then hold one instance more.
#[utoipa::path(
    post, path = "/api/invites/redeem", operation_id = "redeemInvite", tag = "Account",
    request_body(content = RedeemBody, example = json!({"code": "YOUR_INVITE_CODE"})),
    responses((status = 201, description = "What the code gave.", body = Entitlement)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn redeem(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Json(body): Json<RedeemBody>,
) -> ApiResult<Response> {
    state.limits().check(Policy::SignIn, &Subject::Account(caller.tenant().to_string()))?;
    let row = state.control().accounts().redeem_invite(&caller.actor(), &body.code).await?;
    Ok((StatusCode::CREATED, Json(Entitlement::from(row))).into_response())
}

/// Lists what lets the account hold instances: redeemed codes and subscriptions, newest first.
#[utoipa::path(
    get, path = "/api/account/entitlements", operation_id = "listEntitlements", tag = "Account",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<Entitlement>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn entitlements(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_entitlements(caller.tenant(), page.page()?).await?;
    Ok(page.answer("/api/account/entitlements", rows, |row| row.id.as_uuid(), |_| true, Entitlement::from))
}
