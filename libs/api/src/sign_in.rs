//! What sign-in and sign-up have in common: throttling and the client's particulars.

use std::{net::IpAddr, time::Duration};

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use moka::future::Cache;
use reef_control::account::Client;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{check_origin, context_of},
    limits::{Policy, Subject, customer},
};

const MAX_FAMILIAR: u64 = 100_000;
const FAMILIAR_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

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

/// An attempt on an account, whether that exists or not.
pub(crate) struct Attempt {
    account: String,
    address: IpAddr,
}

/// From where accounts were signed in to.
///
/// Whoever guesses at an account from many addresses uses up what strangers have; its holder is none, and cannot be locked
/// out that way. Forgotten with a restart, and known to this process alone: then the holder is one of the strangers.
pub(crate) struct Familiar(Cache<(String, IpAddr), ()>);

impl Default for Familiar {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_FAMILIAR).time_to_idle(FAMILIAR_FOR).build())
    }
}

impl Attempt {
    /// Counts the attempt.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn begin(state: &ApiState, email: &str, client: &Client) -> ApiResult<Self> {
        let account: String = email.trim().to_lowercase().chars().take(320).collect();
        let address = customer(client.ip.unwrap_or(IpAddr::from([0, 0, 0, 0])));
        state.limits().check(Policy::SignIn, &Subject::AccountFrom(account.clone(), address))?;
        let attempt = Self { account, address };
        if !state.familiar().0.contains_key(&(attempt.account.clone(), address)) {
            let account = Subject::Account(attempt.account.clone());
            state.limits().check(Policy::SignInFromAnywhere, &account)?;
        }
        Ok(attempt)
    }

    /// Remembers that it succeeded.
    pub(crate) async fn succeeded(self, state: &ApiState) {
        state.familiar().0.insert((self.account, self.address), ()).await;
    }
}
