//! What is known of a credential.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;
use reef_auth::{Caller, Credential};
use reef_control::account::{Grant, KeyRecord};
use reef_door::ErrorCode;
use reef_model::SessionId;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{ApiError, ApiResult};

/// A credential's standing, shared by all that was opened with it.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Grows with every change of the credential: what was read before it is stale.
    pub(crate) version: AtomicU64,
    /// Cancelled when it loses its rights.
    pub(crate) revoked: CancellationToken,
}

/// A checked credential.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Who it is and what they may.
    pub(crate) principal: Caller,
    /// Where and until when it may be used, where it is a key.
    pub(crate) key: Option<KeyRecord>,
    /// `usr_…` or `key_…`, as doors are told.
    actor: HeaderValue,
    version: u64,
    standing: Arc<Standing>,
}

impl Identity {
    /// Joins what was read of a credential with its standing.
    pub(crate) fn new(principal: Caller, key: Option<KeyRecord>, standing: Arc<Standing>) -> Self {
        let actor = HeaderValue::try_from(principal.actor_id()).expect("ids are lower-case ASCII");
        Self { principal, key, actor, version: standing.version.load(Ordering::Acquire), standing }
    }

    /// Returns what may be given with it to a new key.
    pub(crate) fn may_give(&self) -> Grant {
        self.key.as_ref().map_or_else(|| self.principal.scopes.into(), KeyRecord::grant)
    }

    /// Tells whether nothing has changed since it was read.
    pub(crate) fn is_current(&self) -> bool {
        !self.standing.revoked.is_cancelled() && self.standing.version.load(Ordering::Acquire) == self.version
    }

    /// Returns who it is, for the door's log.
    pub(crate) fn actor(&self) -> &HeaderValue {
        &self.actor
    }

    /// Returns what is cancelled when the credential loses its rights.
    pub(crate) fn revoked(&self) -> &CancellationToken {
        &self.standing.revoked
    }

    /// Returns the session that it is; a key is refused.
    pub(crate) fn session(&self) -> ApiResult<SessionId> {
        match self.principal.credential {
            Credential::Session(id) => Ok(id),
            Credential::Key(_) => Err(ApiError::new(
                ErrorCode::Forbidden,
                "A key cannot do this: sign in with a browser, where the password can be asked for.",
            )
            .with_details(json!({ "reason": "session_required" }))),
        }
    }

    /// Returns the UUID inside the credential's id.
    pub(crate) fn credential_uuid(&self) -> Uuid {
        uuid_of(self.principal.credential)
    }
}

/// Returns the UUID inside a credential's id.
pub(crate) fn uuid_of(credential: Credential) -> Uuid {
    match credential {
        Credential::Key(id) => id.as_uuid(),
        Credential::Session(id) => id.as_uuid(),
    }
}
