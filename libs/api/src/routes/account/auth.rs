//! `/api/auth`: sign-up, sign-in, sign-out, the present session.

use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use reef_control::{ControlError, account::SignUp};
use reef_db::UserRow;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tower_sessions::Session;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Account, Caller},
    extract::Json,
    session,
    sign_in::{Attempt, SignInClient},
    views::User,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(log_in))
        .routes(routes!(log_out))
        .routes(routes!(present))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignUpBody {
    /// Its e-mail address.
    email: String,
    /// 10 to 256 characters.
    #[schema(value_type = String)]
    password: SecretString,
    /// What to call its holder.
    #[serde(default)]
    name: Option<String>,
    /// An invite code, redeemed at once.
    #[serde(default)]
    invite_code: Option<String>,
}

/// Credentials.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogInBody {
    /// The account's address.
    email: String,
    /// Its password.
    #[schema(value_type = String)]
    password: SecretString,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// The account.
    user: User,
}

/// Makes an account and signs it in (cookie).
#[utoipa::path(
    post, path = "/api/auth/signup", operation_id = "signUp", tag = "Account",
    request_body(content = SignUpBody, example = json!({"email": "ada@example.org", "password": "correct horse battery"})),
    responses((status = 201, description = "The account; the cookie `reef_session` is set.", body = SessionView)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn sign_up(
    from: SignInClient,
    State(state): State<ApiState>,
    session: Session,
    Json(body): Json<SignUpBody>,
) -> ApiResult<Response> {
    let attempt = Attempt::begin(&state, &body.email, &from.client)?;
    let wish =
        SignUp { email: body.email, password: body.password, name: body.name, invite_code: body.invite_code };
    let user = state.control().accounts().sign_up(wish, &from.client).await?;
    attempt.succeeded(&state).await;
    session::begin(&session, user.id, &from.client).await?;
    Ok((StatusCode::CREATED, Json(SessionView { user: user.into() })).into_response())
}

/// Signs in (cookie).
#[utoipa::path(
    post, path = "/api/auth/login", operation_id = "logIn", tag = "Account",
    request_body(content = LogInBody, example = json!({"email": "ada@example.org", "password": "correct horse battery"})),
    responses((status = 200, description = "Signed in; the cookie `reef_session` is set.", body = SessionView)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn log_in(
    from: SignInClient,
    State(state): State<ApiState>,
    session: Session,
    Json(body): Json<LogInBody>,
) -> ApiResult<Json<SessionView>> {
    let attempt = Attempt::begin(&state, &body.email, &from.client)?;
    let user = state.control().accounts().sign_in(&body.email, body.password, &from.client).await?;
    attempt.succeeded(&state).await;
    session::begin(&session, user.id, &from.client).await?;
    // A new password or a lock meanwhile ended the sessions that there were, not this one.
    let present = state.control().db().lookup_user(user.id).await?;
    let is_as_before =
        |present: UserRow| present.password_hash == user.password_hash && present.locked_at == user.locked_at;
    if !present.is_some_and(is_as_before) {
        session::end(&session).await?;
        return Err(ControlError::BadCredentials.into());
    }
    Ok(Json(SessionView { user: user.into() }))
}

/// Signs out; does nothing where nobody is signed in.
#[utoipa::path(
    post, path = "/api/auth/logout", operation_id = "logOut", tag = "Account",
    responses((status = 204, description = "Nobody is signed in with this cookie any more.")),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn log_out(OwnSite: OwnSite, session: Session) -> ApiResult<StatusCode> {
    session::end(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells who is signed in.
#[utoipa::path(
    get, path = "/api/auth/session", operation_id = "getSession", tag = "Account",
    responses((status = 200, description = "The account.", body = SessionView)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn present(caller: Caller<Account>, State(state): State<ApiState>) -> ApiResult<Json<SessionView>> {
    let user = state.control().db().lookup_user(caller.tenant()).await?;
    let user = user.ok_or_else(|| ApiError::unauthorized("This account is gone."))?;
    Ok(Json(SessionView { user: user.into() }))
}

/// A request that no other site made a browser send.
struct OwnSite;

impl FromRequestParts<ApiState> for OwnSite {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> ApiResult<Self> {
        // Without a cookie there is nobody to be signed out.
        if parts.headers.contains_key(http::header::COOKIE) {
            crate::caller::check_origin(parts, state)?;
        }
        Ok(Self)
    }
}
