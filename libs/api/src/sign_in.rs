//! What sign-in and sign-up have in common: throttling and the client's particulars.

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use reef_control::account::Client;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{check_origin, context_of},
    limits::{Policy, Subject},
};

/// Somebody who is about to prove who they are; counted per address.
pub(crate) struct SignInClient {
    /// From where.
    pub(crate) client: Client,
}

impl FromRequestParts<ApiState> for SignInClient {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> ApiResult<Self> {
        let context = context_of(parts)?;
        // A browser that another site signs in to the attacker's account is a forgery too; a program sends no Origin.
        if parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site") {
            check_origin(parts, state)?;
        }
        context.set_rate(state.limits().check(Policy::SignIn, &Subject::address(context.client()))?);
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            client: Client {
                ip: Some(context.client()),
                user_agent: user_agent.map(str::to_owned),
                request_id: Some(context.request_id().to_owned()),
            },
        })
    }
}

/// Counts an attempt on an account, whether it exists or not.
pub(crate) fn throttle_account(state: &ApiState, email: &str) -> ApiResult<()> {
    let account = email.trim().to_lowercase().chars().take(320).collect();
    state.limits().check(Policy::SignIn, &Subject::Account(account)).map(|_| ())
}
