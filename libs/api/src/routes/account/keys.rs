//! `/api/keys`: API keys.

use std::time::Duration;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use reef_auth::Credential;
use reef_control::account::{NewKey, PatchKey};
use reef_model::{ApiKeyId, InstanceId, Scopes, Timestamp};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Account, Anyone, Caller},
    extract::{Json, PageQuery, Path, Query},
    idempotency::ShownOnce,
    views::{ApiKey, MintedKey},
};

/// A rotated key may live on for a week at most.
const MAX_OVERLAP_SECONDS: u32 = 7 * 24 * 3600;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, mint))
        .routes(routes!(current))
        .routes(routes!(patch, revoke))
        .routes(routes!(rotate))
}

/// Lists your keys, newest first.
#[utoipa::path(
    get, path = "/api/keys", operation_id = "listKeys", tag = "Keys",
    params(PageQuery),
    responses((status = 200, description = "One page.", body = Vec<ApiKey>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_api_keys(caller.tenant(), page.page()?).await?;
    Ok(page.answer("/api/keys", rows, |row| row.id.as_uuid(), |_| true, ApiKey::from))
}

/// What may be said of a new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MintKeyBody {
    /// 1 to 100 characters.
    name: String,
    /// What it may do; left out: everything but `account`. Never more than the caller may.
    #[serde(default)]
    scopes: Option<Scopes>,
    /// On which instances; left out: on all.
    #[serde(default)]
    instance_ids: Option<Vec<InstanceId>>,
    /// From which addresses or networks; left out: from any.
    #[serde(default)]
    ip_allow: Option<Vec<String>>,
    /// When it ends; left out: never.
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// Makes a key. Its secret is in this answer and never shown again.
#[utoipa::path(
    post, path = "/api/keys", operation_id = "createKey", tag = "Keys",
    request_body(content = MintKeyBody, example = json!({"name": "nightly report", "scopes": ["instances:read", "chat"]})),
    responses((status = 201, description = "The key and its secret.", body = MintedKey)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn mint(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Json(body): Json<MintKeyBody>,
) -> ApiResult<Response> {
    let wish = NewKey {
        name: body.name,
        scopes: body.scopes,
        instance_ids: body.instance_ids,
        ip_allow: body.ip_allow,
        expires_at: body.expires_at,
    };
    let may_give = caller.identity().may_give();
    let (row, secret) = state.control().accounts().mint_key(&caller.actor(), may_give, wish).await?;
    let minted = MintedKey { key: row.into(), secret: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, Extension(ShownOnce("secret")), Json(minted)).into_response())
}

/// Tells what the key that asks may do.
#[utoipa::path(
    get, path = "/api/keys/current", operation_id = "getCurrentKey", tag = "Keys",
    responses((status = 200, description = "The key.", body = ApiKey)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn current(caller: Caller<Anyone>, State(state): State<ApiState>) -> ApiResult<Json<ApiKey>> {
    let Credential::Key(id) = caller.identity().principal.credential else {
        return Err(ApiError::new(
            reef_door::ErrorCode::NotFound,
            "You are signed in without a key: send one as Authorization: Bearer to ask about it.",
        ));
    };
    let row = state.control().db().lookup_api_key(caller.tenant(), id).await?;
    Ok(Json(row.ok_or_else(|| ApiError::not_found("key"))?.into()))
}

/// What may be changed of a key; what is left out stays, `null` lifts a limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchKeyBody {
    /// 1 to 100 characters.
    #[serde(default)]
    name: Option<String>,
    /// What it may do.
    #[serde(default)]
    scopes: Option<Scopes>,
    /// On which instances; null: on all.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<InstanceId>>)]
    instance_ids: Option<Option<Vec<InstanceId>>>,
    /// From which addresses or networks; null: from any.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    ip_allow: Option<Option<Vec<String>>>,
    /// When it ends; null: never.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
}

/// Tells `null` from what was left out.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(reader).map(Some)
}

/// Renames or limits a key.
#[utoipa::path(
    patch, path = "/api/keys/{id}", operation_id = "updateKey", tag = "Keys",
    params(("id" = ApiKeyId, Path)),
    request_body(content = PatchKeyBody, example = json!({"name": "weekly report", "ip_allow": ["192.0.2.0/24"]})),
    responses((status = 200, description = "The key as it is now.", body = ApiKey)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn patch(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Path(id): Path<ApiKeyId>,
    Json(body): Json<PatchKeyBody>,
) -> ApiResult<Json<ApiKey>> {
    let change = PatchKey {
        name: body.name,
        scopes: body.scopes,
        instance_ids: body.instance_ids,
        ip_allow: body.ip_allow,
        expires_at: body.expires_at,
    };
    let may_give = caller.identity().may_give();
    Ok(Json(state.control().accounts().patch_key(&caller.actor(), may_give, id, change).await?.into()))
}

/// Revokes a key at once; its open streams are closed within a second.
#[utoipa::path(
    delete, path = "/api/keys/{id}", operation_id = "revokeKey", tag = "Keys",
    params(("id" = ApiKeyId, Path)),
    responses((status = 204, description = "It is revoked.")),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn revoke(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Path(id): Path<ApiKeyId>,
) -> ApiResult<StatusCode> {
    state.control().accounts().revoke_key(&caller.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How to rotate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKeyBody {
    /// How long the old secret still works, at most a week; left out: not at all.
    #[serde(default)]
    #[schema(maximum = 604800)]
    overlap_seconds: u32,
}

/// Makes a key like this one and ends this one, after an overlap where that is wished.
#[utoipa::path(
    post, path = "/api/keys/{id}/rotate", operation_id = "rotateKey", tag = "Keys",
    params(("id" = ApiKeyId, Path)),
    request_body(content = RotateKeyBody, example = json!({"overlap_seconds": 3600})),
    responses((status = 201, description = "The new key and its secret.", body = MintedKey)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn rotate(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Path(id): Path<ApiKeyId>,
    Json(body): Json<RotateKeyBody>,
) -> ApiResult<Response> {
    if body.overlap_seconds > MAX_OVERLAP_SECONDS {
        return Err(ApiError::invalid([("overlap_seconds", "give at most 604800 (a week)".to_owned())]));
    }
    let overlap = Duration::from_secs(u64::from(body.overlap_seconds));
    let may_give = caller.identity().may_give();
    let rotated = state.control().accounts().rotate_key(&caller.actor(), may_give, id, overlap).await?;
    let minted = MintedKey { key: rotated.new.into(), secret: rotated.secret.expose().to_owned() };
    Ok((StatusCode::CREATED, Extension(ShownOnce("secret")), Json(minted)).into_response())
}
