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
use reef_auth::{Claims, Credential, Denied, FileLink, api_key::hash_presented, can};
use reef_control::{
    Actor,
    account::{Client, KeyRefused},
};
use reef_door::ErrorCode;
use reef_model::{InstanceId, Role, SessionId, UserId};
use reef_proxy::headers::{asks_for_websocket, bearer_subprotocol};
use serde_json::json;

pub(crate) use self::cache::CallerCache;
pub(crate) use self::identity::Identity;
pub(crate) use self::right::{
    Account, Anyone, Chat, Desktop, Exec, Files, InstancesRead, InstancesWrite, Need, Operator, Person,
    Right, Terminal,
};
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

    /// Returns the session that asks; a key is refused.
    pub(crate) fn session(&self) -> ApiResult<SessionId> {
        self.identity.session()
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
        let identity = authenticate(parts, state, &context, instance).await?;
        authorize(&identity, Need::of::<R>(), instance)?;
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

/// Returns who asks: by a key, by a ticket, by a link, or by a browser's cookie.
pub(crate) async fn authenticate(
    parts: &Parts,
    state: &ApiState,
    context: &RequestContext,
    instance: Option<InstanceId>,
) -> ApiResult<Arc<Identity>> {
    refuse_key_in_query(parts)?;
    let accounts = state.control().accounts();
    let identity = if let Some(token) = bearer(&parts.headers).or_else(|| offered_key(&parts.headers)) {
        identity_of_key(token, state, context).await?
    } else if let Some(ticket) = ticket(parts) {
        redeem(&ticket, parts.uri.path(), state).await?
    } else if let Some(link) = signed_link(parts, instance) {
        redeem_link(link, state).await?
    } else if let Some(identity) = session::identity(parts, state).await? {
        check_origin(parts, state)?;
        identity
    } else {
        return Err(ApiError::unauthorized(SIGN_IN));
    };
    let admitted =
        identity.key.as_ref().map_or(Ok(()), |key| key.admits(context.client(), state.control().now()));
    admitted.map_err(|refused| match refused {
        KeyRefused::Expired => ApiError::unauthorized(BAD_KEY),
        KeyRefused::Address => {
            ApiError::new(ErrorCode::Forbidden, "This key may not be used from your address.")
                .with_details(json!({ "reason": "address", "address": context.client() }))
        }
    })?;
    accounts.record_use(identity.principal.credential, Some(context.client()));
    Ok(identity)
}

/// Returns who a key belongs to.
async fn identity_of_key(
    token: &str,
    state: &ApiState,
    context: &RequestContext,
) -> ApiResult<Arc<Identity>> {
    let callers = state.callers();
    let address = Subject::address(context.client());
    let refused = || {
        // Guessing is hopeless, but it costs us a query each.
        state.limits().check(Policy::BadCredentials, &address)?;
        Err(ApiError::unauthorized(BAD_KEY))
    };
    let Some(hash) = hash_presented(token) else { return refused() };
    if let Some(identity) = callers.warm(&hash).await {
        return Ok(identity);
    }
    if state.limits().is_refused(Policy::BadCredentials, &address) {
        state.limits().check(Policy::UnknownKeys, &address)?;
    }
    match callers.look_up(state.control().accounts(), hash).await? {
        Some(identity) => Ok(identity),
        None => refused(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the key that a browser offers among the subprotocols of a handshake.
fn offered_key(headers: &HeaderMap) -> Option<&str> {
    let key = asks_for_websocket(headers).then(|| bearer_subprotocol(headers)).flatten();
    key.map(|(key, _)| key)
}

/// Returns the ticket that a browser opens a stream or a socket with: where it cannot send headers, it sends this.
fn ticket(parts: &Parts) -> Option<String> {
    let query = parts.uri.query().filter(|_| parts.method == Method::GET)?;
    query.split('&').find_map(|pair| pair.strip_prefix("ticket=")).map(str::to_owned)
}

/// Takes a ticket for `path` and returns who it was made by, with the rights that they have by now.
async fn redeem(ticket: &str, path: &str, state: &ApiState) -> ApiResult<Arc<Identity>> {
    let refused = || {
        ApiError::unauthorized(
            "This ticket is not valid here: it is for one path, once, within 30 seconds. Make another one.",
        )
    };
    let claims = state.tickets().take(ticket, path, state.control().now()).map_err(|_| refused())?;
    identity_of(claims, state).await?.ok_or_else(refused)
}

const CONTENT: &str = "/files/content";
const LINK_REFUSED: &str = "This link is not valid: it is for one file and one method as it stands, it has ended, or the key that \
     made it has. Make another one with POST …/files/url.";

/// A link that is used; `path`: none where the query has anything else in it than a link has.
struct Signed {
    instance: InstanceId,
    method: &'static str,
    path: Option<String>,
    signature: String,
}

/// Returns the link that a request for a file's content comes with.
fn signed_link(parts: &Parts, instance: Option<InstanceId>) -> Option<Signed> {
    let instance = instance.filter(|id| parts.uri.path() == format!("/api/instances/{id}{CONTENT}"))?;
    let query = parts.uri.query().filter(|query| query.contains("signature="))?;
    let (mut paths, mut signatures, mut others) = (Vec::new(), Vec::new(), 0);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "path" => paths.push(value.into_owned()),
            "signature" => signatures.push(value.into_owned()),
            _ => others += 1,
        }
    }
    let is_plain = paths.len() == 1 && signatures.len() == 1 && others == 0;
    Some(Signed {
        instance,
        method: if parts.method.is_safe() { "GET" } else { "PUT" },
        path: paths.pop().filter(|_| is_plain),
        signature: signatures.pop()?,
    })
}

/// Returns who made a link, with the rights that they have by now.
async fn redeem_link(link: Signed, state: &ApiState) -> ApiResult<Arc<Identity>> {
    let Signed { instance, method, path, signature } = link;
    let refused = || ApiError::unauthorized(LINK_REFUSED);
    let path = path.ok_or_else(refused)?;
    let link = FileLink { instance, method, path: &path };
    let (secrets, now) = (state.control().secrets(), state.control().now());
    let claims = link.open(&signature, secrets, now).map_err(|_| refused())?;
    identity_of(claims, state).await?.ok_or_else(refused)
}

/// Returns the maker of a ticket or a link; `None`: the credential has ended.
async fn identity_of(claims: Claims, state: &ApiState) -> ApiResult<Option<Arc<Identity>>> {
    let (accounts, seen) = (state.control().accounts(), state.callers().applied());
    if !accounts.is_live(claims.user, claims.credential).await? {
        return Ok(None);
    }
    let found = match claims.credential {
        Credential::Session(session) => {
            let found = accounts.session_caller(claims.user, session).await?;
            found.map(|(principal, ends_at)| (principal, None, Some(ends_at)))
        }
        Credential::Key(id) => {
            let record = accounts.lookup_key_by_id(claims.user, id).await?;
            record.map(|record| {
                let ends_at = record.expires_at();
                (record.caller().clone(), Some(record), ends_at)
            })
        }
    };
    let Some((principal, key, ends_at)) = found else { return Ok(None) };
    let standing = state.callers().standing_since(accounts, seen, &principal, ends_at).await?;
    Ok(standing.map(|standing| Arc::new(Identity::new(principal, key, standing))))
}

/// Decides what needs no look at the instance itself.
pub(crate) fn authorize(identity: &Identity, need: Need, instance: Option<InstanceId>) -> ApiResult<()> {
    if need.is_operators && identity.principal.role != Role::Operator {
        return Err(ApiError::new(ErrorCode::Forbidden, "Only the operator of this service may do this."));
    }
    let Some(scope) = need.scope else { return Ok(()) };
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
    })?;
    if need.is_persons { identity.session().map(drop) } else { Ok(()) }
}

/// Refuses what another site makes a signed-in browser send (cross-site request forgery).
///
/// A browser says where an unsafe request or a handshake comes from; one that does not say comes from no current browser.
pub(crate) fn check_origin(parts: &Parts, state: &ApiState) -> ApiResult<()> {
    let opens_socket = asks_for_websocket(&parts.headers);
    if parts.method.is_safe() && !opens_socket {
        return Ok(());
    }
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) => {
            // By whichever of its names this service is called, the scheme is the one it is reached with.
            let scheme = if state.origin().is_https() { "https://" } else { "http://" };
            let authority = origin.strip_prefix(scheme);
            origin == state.origin().as_str() || (authority.is_some() && authority == text("host"))
        }
        (None, Some(site)) if !opens_socket => matches!(site, "same-origin" | "none"),
        (None, _) => false,
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
