//! Verbs on instances: each changes intent and wakes the reconciler.

mod change;
mod create;
mod operation;
mod upstream;

pub use change::{PatchInstance, Verb};
pub use create::CreateInstance;
pub use upstream::{Upstream, upstream_cache};

use reef_auth::{SecretBox, random_token};
use reef_db::InstanceRow;
use reef_model::{InstanceId, UserId};
use secrecy::{ExposeSecret, SecretString};

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
        let open = |name, sealed| {
            let opened = self.secrets().open(sealed, place(row.id, name).as_bytes()).map_err(|error| {
                tracing::error!(instance = %row.id, error = &error as &dyn std::error::Error, "{name} unreadable");
                ControlError::Secret
            })?;
            String::from_utf8(opened).map(SecretString::from).map_err(|_| ControlError::Secret)
        };
        Ok(Tokens {
            door: open(DOOR_TOKEN, &row.door_token_enc)?,
            gateway: open(GATEWAY_TOKEN, &row.gateway_token_enc)?,
        })
    }
}

const DOOR_TOKEN: &str = "door token";
const GATEWAY_TOKEN: &str = "gateway token";

fn seal_new_token(secrets: &SecretBox, id: InstanceId, name: &str) -> Vec<u8> {
    secrets.seal(random_token().expose_secret().as_bytes(), place(id, name).as_bytes())
}

/// What a sealed token is bound to, so that it opens nowhere else.
fn place(id: InstanceId, name: &str) -> String {
    format!("{id} {name}")
}
