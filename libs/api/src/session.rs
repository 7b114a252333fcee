//! Browser sessions: the cookie, signing in and out.

use std::sync::Arc;

use http::request::Parts;
use reef_control::account::{Client, DbSessionStore, SignedIn};
use reef_model::UserId;
use tower_sessions::{Expiry, Session, SessionManagerLayer, cookie::SameSite};

use crate::{ApiError, ApiResult, ApiState, caller::Identity};

/// The cookie's name on http, of a local run.
pub(crate) const COOKIE: &str = "reef_session";
/// Its name on https: browsers take it from this very host only, over https, for the whole of it (RFC 6265bis §4.1.3.2).
const HOST_COOKIE: &str = "__Host-reef_session";
const LIFETIME: time::Duration = time::Duration::days(30);

/// Returns the layer that gives handlers their [`Session`]; nothing is loaded until somebody asks.
pub(crate) fn layer(state: &ApiState) -> SessionManagerLayer<DbSessionStore> {
    SessionManagerLayer::new(state.control().accounts().session_store())
        .with_name(if state.origin().is_https() { HOST_COOKIE } else { COOKIE })
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_secure(state.origin().is_https())
        .with_path("/")
        .with_expiry(Expiry::OnInactivity(LIFETIME))
}

/// Signs a browser in under a new cookie, whatever it had before (OWASP: session fixation).
pub(crate) async fn begin(session: &Session, user: UserId, client: &Client) -> ApiResult<()> {
    // Where there is none the library would warn of it.
    if session.id().is_some() {
        session.flush().await.map_err(ApiError::internal)?;
    }
    session.insert(SignedIn::KEY, SignedIn::new(user, client)).await.map_err(ApiError::internal)?;
    session.save().await.map_err(ApiError::internal)
}

/// Signs a browser out.
pub(crate) async fn end(session: &Session) -> ApiResult<()> {
    session.flush().await.map_err(ApiError::internal)
}

/// Returns who is signed in with the request's cookie.
pub(crate) async fn identity(parts: &Parts, state: &ApiState) -> ApiResult<Option<Arc<Identity>>> {
    let (accounts, seen) = (state.control().accounts(), state.callers().applied());
    let Some(session) = parts.extensions.get::<Session>() else { return Ok(None) };
    let Some(signed_in) = session.get::<SignedIn>(SignedIn::KEY).await.map_err(ApiError::internal)? else {
        return Ok(None);
    };
    let Some((principal, ends_at)) = accounts.session_caller(signed_in.user, signed_in.session).await? else {
        return Ok(None);
    };
    let standing = state.callers().standing_since(accounts, seen, &principal, Some(ends_at)).await?;
    Ok(standing.map(|standing| Arc::new(Identity::new(principal, None, standing))))
}
