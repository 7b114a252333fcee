//! Verbs on instances: each changes intent and wakes the reconciler.

mod change;
mod create;
mod operation;
mod upstream;

pub(crate) use change::Changed;
pub use change::{PatchInstance, Verb};
pub use create::CreateInstance;
pub use upstream::{Upstream, upstream_cache};

use std::collections::BTreeMap;

use reef_db::InstanceRow;
use reef_model::{InstanceId, UserId};
use secrecy::SecretString;

use crate::{ControlError, Inner};

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
            door: self.unseal(row.id, DOOR_TOKEN, &row.door_token_enc)?.into(),
            gateway: self.unseal(row.id, GATEWAY_TOKEN, &row.gateway_token_enc)?.into(),
        })
    }

    pub(crate) fn env_of(&self, row: &InstanceRow) -> Result<BTreeMap<String, String>, ControlError> {
        serde_json::from_str(&self.unseal(row.id, ENV, &row.env_enc)?).map_err(|_| ControlError::Secret)
    }

    fn seal_env(&self, id: InstanceId, env: &BTreeMap<String, String>) -> Vec<u8> {
        // A map of strings always has a JSON form.
        self.seal(id, ENV, &serde_json::to_string(env).unwrap_or_default())
    }

    /// Binds a secret to its instance and its purpose, so that it opens nowhere else.
    fn seal(&self, id: InstanceId, purpose: &str, secret: &str) -> Vec<u8> {
        self.secrets().seal(secret.as_bytes(), format!("{id} {purpose}").as_bytes())
    }

    fn unseal(&self, id: InstanceId, purpose: &str, sealed: &[u8]) -> Result<String, ControlError> {
        let opened = self.secrets().open(sealed, format!("{id} {purpose}").as_bytes()).map_err(|error| {
            tracing::error!(instance = %id, error = &error as &dyn std::error::Error, "{purpose} unreadable");
            ControlError::Secret
        })?;
        String::from_utf8(opened).map_err(|_| ControlError::Secret)
    }
}

const DOOR_TOKEN: &str = "door token";
const GATEWAY_TOKEN: &str = "gateway token";
const ENV: &str = "environment";
