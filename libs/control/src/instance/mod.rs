//! Verbs on instances: each changes intent and wakes the reconciler.

mod change;
mod create;
mod operation;
mod upstream;

pub use create::CreateInstance;
pub use change::{PatchInstance, Verb};
pub use upstream::{Upstream, upstream_cache};

use reef_auth::SecretBox;
use reef_db::InstanceRow;
use reef_model::{InstanceId, UserId};
use secrecy::{ExposeSecret, SecretString};

use crate::{ControlError, Inner};

/// Who asks, for the audit row.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The tenant that the verb is for.
    pub tenant: UserId,
    /// `user`, `key`, `operator` or `system`.
    pub kind: &'static str,
    /// The id of the user or key.
    pub id: String,
    /// The request, where there is one.
    pub request_id: Option<String>,
    /// The client's address, where there is one.
    pub ip: Option<String>,
}

/// An instance's tokens in the clear.
pub(crate) struct Tokens {
    pub(crate) door: SecretString,
    pub(crate) gateway: SecretString,
}

impl Inner {
    /// Returns the tenant's instance.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] where it does not exist, is another tenant's, or is purged.
    pub async fn get_instance(&self, tenant: UserId, id: InstanceId) -> Result<InstanceRow, ControlError> {
        self.db().lookup_instance(tenant, id).await?.ok_or(ControlError::NotFound)
    }

    pub(crate) fn tokens_of(&self, row: &InstanceRow) -> Result<Tokens, ControlError> {
        Ok(Tokens {
            door: open(self.secrets(), row.id, "door", &row.door_token_enc)?,
            gateway: open(self.secrets(), row.id, "gateway", &row.gateway_token_enc)?,
        })
    }
}

fn context(id: InstanceId, name: &str) -> String {
    format!("instance:{id}:{name}")
}

fn seal(secrets: &SecretBox, id: InstanceId, name: &str, token: &SecretString) -> Vec<u8> {
    secrets.seal(token.expose_secret().as_bytes(), context(id, name).as_bytes())
}

fn open(secrets: &SecretBox, id: InstanceId, name: &str, sealed: &[u8]) -> Result<SecretString, ControlError> {
    let bytes = secrets.open(sealed, context(id, name).as_bytes()).map_err(|_| ControlError::Secret)?;
    String::from_utf8(bytes).map(SecretString::from).map_err(|_| ControlError::Secret)
}
