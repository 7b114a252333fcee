//! What is done by mail: a forgotten password, the proof of an address.

use axum::extract::State;
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, Person},
    extract::Json,
    limits::{Policy, Subject},
    sign_in::SignInClient,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(forgot))
        .routes(routes!(reset))
        .routes(routes!(verify))
        .routes(routes!(resend))
}

/// Whose password was forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgotBody {
    /// The account's address.
    email: String,
}

/// Has a link mailed that lets its reader choose a new password; whether an account has the address is not told.
#[utoipa::path(
    post, path = "/api/auth/password/forgot", operation_id = "forgetPassword", tag = "Account",
    request_body(content = ForgotBody, example = json!({"email": "ada@example.org"})),
    responses((status = 202, description = "If an account has this address, a mail is on its way.")),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn forgot(
    from: SignInClient,
    State(state): State<ApiState>,
    Json(body): Json<ForgotBody>,
) -> ApiResult<StatusCode> {
    let account = body.email.trim().to_lowercase().chars().take(320).collect();
    state.limits().check(Policy::Mail, &Subject::Account(account))?;
    state.control().accounts().forget_password(&body.email, &from.client).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A new password, and what lets it be chosen.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetBody {
    /// The token of the mailed link.
    #[schema(value_type = String)]
    token: SecretString,
    /// 10 to 1024 characters.
    #[schema(value_type = String)]
    password: SecretString,
}

/// Sets a new password with the token of a mailed link, which works once, for an hour. All sessions end; keys stay.
#[utoipa::path(
    post, path = "/api/auth/password/reset", operation_id = "resetPassword", tag = "Account",
    request_body(content = ResetBody, example = json!({"token": "TOKEN_OF_THE_MAIL", "password": "correct horse battery"})),
    responses((status = 204, description = "Sign in with the new password.")),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn reset(
    from: SignInClient,
    State(state): State<ApiState>,
    Json(body): Json<ResetBody>,
) -> ApiResult<StatusCode> {
    state.control().accounts().reset_password(&body.token, body.password, &from.client).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What proves an address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// The token of the mailed link.
    #[schema(value_type = String)]
    token: SecretString,
}

/// An address that was proven.
#[derive(Serialize, ToSchema)]
pub(crate) struct VerifiedAddress {
    /// The address, which is the account's.
    email: String,
}

/// Takes the token of a mailed link as a proof of the address, which becomes the account's where it was to.
#[utoipa::path(
    post, path = "/api/auth/email/verify", operation_id = "verifyEmail", tag = "Account",
    request_body(content = VerifyBody, example = json!({"token": "TOKEN_OF_THE_MAIL"})),
    responses((status = 200, description = "It is proven.", body = VerifiedAddress)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn verify(
    from: SignInClient,
    State(state): State<ApiState>,
    Json(body): Json<VerifyBody>,
) -> ApiResult<Json<VerifiedAddress>> {
    let user = state.control().accounts().verify_email(&body.token, &from.client).await?;
    Ok(Json(VerifiedAddress { email: user.email }))
}

/// Mails the link that proves the account's address, or the one that it is to get, once more.
#[utoipa::path(
    post, path = "/api/auth/email/resend", operation_id = "resendVerification", tag = "Account",
    responses((status = 202, description = "It is on its way."), (status = 409, description = "There is nothing to prove.", body = reef_door::ErrorBody)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-session" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn resend(caller: Caller<Person>, State(state): State<ApiState>) -> ApiResult<StatusCode> {
    state.limits().check(Policy::Mail, &Subject::Account(caller.tenant().to_string()))?;
    state.control().accounts().resend_proof(&caller.actor()).await?;
    Ok(StatusCode::ACCEPTED)
}
