//! Who asks, and may they: the extractor that a handler names to be reached only by those who may.
//!
//! A warm key costs one SHA-256 and one look into a cache. What the cache says holds until the key or session is
//! revoked: [`CallerCache::apply`] forgets it and cancels [`Identity::revoked`], which every open stream of it watches.

mod cache;
mod identity;
mod right;

use std::{marker::PhantomData, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, Method, header, request::Parts};
use reef_auth::{Denied, can};
use reef_control::{
    Actor,
    account::{Client, KeyRefused},
};
use reef_door::ErrorCode;
use reef_model::{InstanceId, Role, UserId};
use serde_json::json;

pub(crate) use self::cache::CallerCache;
pub(crate) use self::identity::Identity;
pub(crate) use self::right::{Account, Anyone, Chat, InstancesRead, InstancesWrite, Operator, Right};
use crate::{
    ApiError, ApiResult, ApiState,
    context::RequestContext,
    extract::refuse_key_in_query,
    limits::{Policy, Subject},
    session,
};

/// A caller who has the right `R`; it was decided before anything of the body was looked at.
pub(crate) struct Caller<R> {
    identity: Arc<Identity>,
    context: RequestContext,
    right: PhantomData<R>,
}

impl<R> Caller<R> {
    /// Returns whose rows the caller may touch.
    pub(crate) fn tenant(&self) -> UserId {
        self.identity.principal.tenant
    }

    /// Returns who the caller is.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Tells whether the credential may know of the instance, if it is the tenant's.
    pub(crate) fn sees(&self, instance: InstanceId) -> bool {
        self.identity.principal.sees(instance)
    }

    /// Returns the request's context.
    pub(crate) fn context(&self) -> &RequestContext {
        &self.context
    }

    /// Returns the caller as verbs and audit want it.
    pub(crate) fn actor(&self) -> Actor {
        let client = Client {
            ip: Some(self.context.client()),
            user_agent: None,
            request_id: Some(self.context.request_id().to_owned()),
        };
        Actor::of(&self.identity.principal, &client)
    }
}

impl<R: Right> Caller<R> {
    /// Authenticates, and decides what needs no look at the instance itself.
    pub(crate) async fn admit(
        parts: &mut Parts,
        state: &ApiState,
        instance: Option<InstanceId>,
    ) -> ApiResult<Self> {
        let context = context_of(parts)?;
        let identity = authenticate(parts, state, &context).await?;
        authorize::<R>(&identity, instance)?;
        let subject = Subject::Credential(identity.credential_uuid());
        context.set_rate(state.limits().check(R::policy(&parts.method), &subject)?);
        Ok(Self { identity, context, right: PhantomData })
    }
}

impl<R: Right> FromRequestParts<ApiState> for Caller<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> ApiResult<Self> {
        Self::admit(parts, state, None).await
    }
}

pub(crate) fn context_of(parts: &Parts) -> ApiResult<RequestContext> {
    parts
        .extensions
        .get::<RequestContext>()
        .cloned()
        .ok_or_else(|| ApiError::internal("the route is mounted without its context layer"))
}

const SIGN_IN: &str =
    "No credentials: send Authorization: Bearer sk_live_… (make a key on the account page).";
const BAD_KEY: &str =
    "This key is not valid: it is mistyped, has ended or was revoked. Make another on the account page.";

/// Returns who asks.
async fn authenticate(parts: &Parts, state: &ApiState, context: &RequestContext) -> ApiResult<Arc<Identity>> {
    refuse_key_in_query(parts)?;
    let Some(token) = bearer(&parts.headers) else {
        let Some(identity) = session::identity(parts, state).await? else {
            return Err(ApiError::unauthorized(SIGN_IN));
        };
        check_origin(parts, state)?;
        return Ok(identity);
    };
    let accounts = state.control().accounts();
    let Some(identity) = state.callers().identity_of_key(accounts, token).await? else {
        // Guessing is hopeless, but it costs us a query each.
        state.limits().check(Policy::BadCredentials, &Subject::address(context.client()))?;
        return Err(ApiError::unauthorized(BAD_KEY));
    };
    let admitted = identity.key.as_ref().map(|key| key.admits(context.client(), state.control().now()));
    match admitted {
        None | Some(Ok(())) => {}
        Some(Err(KeyRefused::Expired)) => return Err(ApiError::unauthorized(BAD_KEY)),
        Some(Err(KeyRefused::Address)) => {
            return Err(ApiError::new(ErrorCode::Forbidden, "This key may not be used from your address.")
                .with_details(json!({ "reason": "address", "address": context.client() })));
        }
    }
    accounts.record_use(identity.principal.credential, Some(context.client()));
    Ok(identity)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn authorize<R: Right>(identity: &Identity, instance: Option<InstanceId>) -> ApiResult<()> {
    if R::NEEDS_OPERATOR && identity.principal.role != Role::Operator {
        return Err(ApiError::new(ErrorCode::Forbidden, "Only the operator of this service may do this."));
    }
    let Some(scope) = R::SCOPE else { return Ok(()) };
    can(&identity.principal, scope, instance).map_err(|denied| match denied {
        Denied::Scope(scope) => ApiError::new(
            ErrorCode::Forbidden,
            format!("This key lacks the scope {scope}: use one that has it."),
        )
        .with_details(json!({ "scope": scope })),
        Denied::Instance if instance.is_some() => ApiError::not_found("instance"),
        Denied::Instance => ApiError::new(
            ErrorCode::Forbidden,
            "This key is for some instances only: use one that is for all.",
        )
        .with_details(json!({ "reason": "instance_ids" })),
    })
}

/// Refuses what another site makes a signed-in browser send (cross-site request forgery).
///
/// A browser says where an unsafe request comes from; a request that does not say comes from no current browser.
pub(crate) fn check_origin(parts: &Parts, state: &ApiState) -> ApiResult<()> {
    check_own_site(&parts.method, &parts.headers, state)
}

/// The same, from what it looks at.
pub(crate) fn check_own_site(method: &Method, headers: &HeaderMap, state: &ApiState) -> ApiResult<()> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            origin == state.origin().as_str() || (authority.is_some() && authority == text("host"))
        }
        (None, Some(site)) => matches!(site, "same-origin" | "none"),
        (None, None) => false,
    };
    if is_own {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Forbidden,
        "This request comes from another site: repeat it from a page of this service, or use a key.",
    )
    .with_details(json!({ "reason": "origin" })))
}
