//! `/api/account`: the account itself.

use axum::extract::State;
use reef_control::account::{AccountChange, Profile};
use reef_db::EntitlementRow;
use reef_model::{Plan, Role, Timestamp, UserId};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Account, Caller, Person},
    extract::Json,
    limits::{Policy, Subject},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get, patch, delete))
}

/// The account and what belongs to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountView {
    /// Its id.
    id: UserId,
    /// Its address.
    email: String,
    /// Whether that was proven to be its holder's.
    email_verified: bool,
    /// The address that it gets once the mail sent there is confirmed.
    pending_email: Option<String>,
    /// What to call its holder.
    name: Option<String>,
    /// `user` or `operator`.
    role: Role,
    /// When it was made.
    created_at: Timestamp,
    /// What lets it hold instances, added up.
    entitlements: EntitlementSummary,
}

/// Rights to hold instances, one each.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntitlementSummary {
    /// How many.
    total: usize,
    /// How many no instance holds yet.
    free: usize,
    /// The plans among them, the smallest first.
    plans: Vec<Plan>,
}

impl From<Profile> for AccountView {
    fn from(profile: Profile) -> Self {
        let Profile { user, pending_email, entitlements } = profile;
        Self {
            id: user.id,
            email: user.email,
            email_verified: user.email_verified_at.is_some(),
            pending_email,
            name: user.name,
            role: user.role,
            created_at: user.created_at,
            entitlements: entitlements.into(),
        }
    }
}

impl From<Vec<EntitlementRow>> for EntitlementSummary {
    fn from(rows: Vec<EntitlementRow>) -> Self {
        let mut plans: Vec<_> = rows.iter().map(|row| row.plan).collect();
        plans.sort_unstable();
        plans.dedup();
        Self { total: rows.len(), free: rows.iter().filter(|row| row.instance_id.is_none()).count(), plans }
    }
}

/// Returns the account.
#[utoipa::path(
    get, path = "/api/account", operation_id = "getAccount", tag = "Account",
    responses((status = 200, description = "The account.", body = AccountView)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn get(caller: Caller<Account>, State(state): State<ApiState>) -> ApiResult<Json<AccountView>> {
    Ok(Json(state.control().accounts().profile(caller.tenant()).await?.into()))
}

/// What may be changed of an account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchAccountBody {
    /// What to call its holder, 1 to 100 characters; null: nothing.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// Another address; it takes effect once the mail sent there is confirmed.
    #[serde(default)]
    email: Option<String>,
    /// Another password, 10 to 1024 characters; every other session ends, keys stay.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// The present password: needed with `email` and `password`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    current_password: Option<SecretString>,
}

/// Tells `null` from what was left out.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(reader).map(Some)
}

/// Changes name, address or password; address and password only in a session, and with the present password.
#[utoipa::path(
    patch, path = "/api/account", operation_id = "updateAccount", tag = "Account",
    request_body(content = PatchAccountBody, example = json!({"name": "Ada"})),
    responses((status = 200, description = "The account as it is now.", body = AccountView)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn patch(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Json(body): Json<PatchAccountBody>,
) -> ApiResult<Json<AccountView>> {
    let mut change = AccountChange { name: body.name, ..AccountChange::default() };
    if body.email.is_some() || body.password.is_some() {
        change.keep = Some(caller.session()?);
        throttle(&state, caller.tenant())?;
    }
    if body.email.is_some() {
        state.limits().check(Policy::Mail, &Subject::Account(caller.tenant().to_string()))?;
    }
    (change.email, change.password, change.current_password) =
        (body.email, body.password, body.current_password);
    let accounts = state.control().accounts();
    accounts.change_account(&caller.actor(), change).await?;
    Ok(Json(accounts.profile(caller.tenant()).await?.into()))
}

/// What proves that it is meant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteAccountBody {
    /// The password.
    #[schema(value_type = String)]
    password: SecretString,
}

/// What became of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountDeletion {
    /// How many instances were deleted with it.
    instances: usize,
    /// When its data goes for good.
    purge_at: Timestamp,
}

/// Deletes the account: its instances, keys and sessions are of no use at once; its data goes after the restore window.
#[utoipa::path(
    delete, path = "/api/account", operation_id = "deleteAccount", tag = "Account",
    request_body(content = DeleteAccountBody, example = json!({"password": "correct horse battery"})),
    responses((status = 200, description = "It is deleted.", body = AccountDeletion)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-session" = json!(true)), ("x-reef-wakes" = json!(false)), ("x-reef-kind" = json!("destructive"))),
)]
async fn delete(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    Json(body): Json<DeleteAccountBody>,
) -> ApiResult<Json<AccountDeletion>> {
    throttle(&state, caller.tenant())?;
    let deleted = state.control().delete_account(&caller.actor(), body.password).await?;
    Ok(Json(AccountDeletion { instances: deleted.instances, purge_at: deleted.purge_at }))
}

/// Counts a try of the present password: a borrowed browser is no place to guess it.
fn throttle(state: &ApiState, user: UserId) -> Result<(), ApiError> {
    state.limits().check(Policy::SignIn, &Subject::Account(user.to_string())).map(|_| ())
}
