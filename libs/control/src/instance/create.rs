//! Create: one transaction takes the entitlement, writes the instance, its operation and its audit row.

use std::{collections::BTreeMap, time::Duration};

use reef_auth::random_token;
use reef_db::{InstanceRow, NewInstance, OperationRow};
use reef_model::{Desired, InstanceId, OperationKind, Plan};
use secrecy::ExposeSecret;

use super::{DOOR_TOKEN, GATEWAY_TOKEN, operation::insert_operation};
use crate::{Actor, Control, ControlError, account::redeem};

const MAX_NAME_CHARS: usize = 64;
const MAX_ENV_VARS: usize = 64;
const MAX_ENV_BYTES: usize = 32 * 1024;
const IDLE_RANGE_SECONDS: std::ops::RangeInclusive<u32> = 60..=30 * 24 * 3600;

/// What a caller may choose of a new instance.
#[derive(Debug, Clone, Default)]
pub struct CreateInstance {
    /// 1 to 64 characters; none: a made one.
    pub name: Option<String>,
    /// An invite code to redeem for this instance.
    pub invite_code: Option<String>,
    /// The plan that is expected of the entitlement.
    pub plan: Option<Plan>,
    /// Another image than the default.
    pub image: Option<String>,
    /// 60 s to 30 days.
    pub idle_timeout_seconds: Option<u32>,
    /// Environment of the agent's processes.
    pub env: BTreeMap<String, String>,
}

impl Control {
    /// Makes an instance; it comes up in the background.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field, [`ControlError::InviteInvalid`], [`ControlError::EntitlementRequired`].
    pub async fn create_instance(
        &self,
        actor: &Actor,
        wish: CreateInstance,
    ) -> Result<(InstanceRow, OperationRow), ControlError> {
        let id = InstanceId::generate();
        let name = match wish.name {
            Some(name) => valid_name(&name)?,
            None => made_name(id),
        };
        wish.image.as_deref().map_or(Ok(()), |image| offered_image(image, &self.policy().offered_images))?;
        valid_env(&wish.env)?;
        let idle_timeout = match wish.idle_timeout_seconds {
            Some(seconds) => valid_idle_timeout(seconds)?,
            None => self.policy().idle_timeout,
        };
        let now = self.now();
        let mut tx = self.db().write().await?;
        let entitlement = match &wish.invite_code {
            Some(code) => {
                let code = code.parse().map_err(|_| ControlError::InviteInvalid)?;
                let given = redeem(&mut tx, actor.tenant, code, now).await?;
                tx.claim_entitlement(actor.tenant, id, wish.plan.or(Some(given.plan)), now).await?
            }
            None => tx.claim_entitlement(actor.tenant, id, wish.plan, now).await?,
        }
        .ok_or(ControlError::EntitlementRequired)?;
        let row = tx
            .insert_instance(&NewInstance {
                id,
                user_id: actor.tenant,
                name,
                plan: entitlement.plan,
                runtime: self.runtime().kind(),
                image: wish.image,
                env_enc: self.seal_env(id, &wish.env),
                idle_timeout_seconds: Some(i64::try_from(idle_timeout.as_secs()).unwrap_or(i64::MAX)),
                door_token_enc: self.seal(id, DOOR_TOKEN, random_token().expose_secret()),
                gateway_token_enc: self.seal(id, GATEWAY_TOKEN, random_token().expose_secret()),
                desired: Desired::Running,
                created_at: now,
            })
            .await?;
        let operation = insert_operation(&mut tx, &row, OperationKind::Create, now).await?;
        tx.insert_audit(&actor.entry("instance.create", id, now)).await?;
        tx.commit().await?;
        self.tell_instance(&row).await;
        self.tell_operation(&operation).await;
        self.queue().push(id);
        Ok((row, operation))
    }
}

pub(super) fn valid_name(name: &str) -> Result<String, ControlError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(ControlError::Invalid {
            field: "name",
            message: format!("give 1 to {MAX_NAME_CHARS} printable characters"),
        });
    }
    Ok(name.to_owned())
}

/// Checks that the operator offers the image: it runs with the door's rights, so no tenant may name any other.
fn offered_image(image: &str, offered: &[String]) -> Result<(), ControlError> {
    if offered.iter().any(|other| other == image) {
        return Ok(());
    }
    let message = match offered {
        [] => "only the default image is offered here; leave it out".to_owned(),
        names => format!("choose one of {}, or leave it out", names.join(", ")),
    };
    Err(ControlError::Invalid { field: "image", message })
}

pub(super) fn valid_idle_timeout(seconds: u32) -> Result<Duration, ControlError> {
    if IDLE_RANGE_SECONDS.contains(&seconds) {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    Err(ControlError::Invalid {
        field: "idle_timeout_seconds",
        message: format!("give {} to {} seconds", IDLE_RANGE_SECONDS.start(), IDLE_RANGE_SECONDS.end()),
    })
}

pub(super) fn valid_env(env: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let refuse = |message: String| Err(ControlError::Invalid { field: "env", message });
    if env.len() > MAX_ENV_VARS || env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ENV_BYTES {
        return refuse(format!("give at most {MAX_ENV_VARS} variables of {MAX_ENV_BYTES} bytes together"));
    }
    for (name, value) in env {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !is_name {
            return refuse(format!("{name:?} is not a variable name: use letters, digits and _"));
        }
        // These decide how the platform runs the gateway.
        let is_ours = ["REEF_", "OPENCLAW_", "LD_"].iter().any(|prefix| name.starts_with(prefix))
            || matches!(name.as_str(), "HOME" | "PATH" | "NODE_OPTIONS");
        if is_ours {
            return refuse(format!("{name} is set by the platform; choose another name"));
        }
        if value.contains('\0') {
            return refuse(format!("the value of {name} holds a NUL byte"));
        }
    }
    Ok(())
}

/// A name that a person can tell from others in a list.
fn made_name(id: InstanceId) -> String {
    let text = id.to_string();
    format!("claw-{}", &text[text.len() - 6..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_platform_owns() {
        for name in ["PATH", "OPENCLAW_GATEWAY_TOKEN", "REEF_X", "LD_PRELOAD", "1A", "", "A=B", "A-B"] {
            let env = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
            assert!(valid_env(&env).is_err(), "{name}");
        }
        assert!(valid_env(&BTreeMap::from([("API_KEY".to_owned(), "x".to_owned())])).is_ok());
    }

    #[test]
    fn an_image_is_one_that_is_offered() {
        let offered = ["reef-instance:next".to_owned()];
        assert!(offered_image("reef-instance:next", &offered).is_ok());
        assert!(offered_image("somebody/elses:image", &offered).is_err());
        assert!(offered_image("reef-instance:next", &[]).is_err());
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(valid_name("  a b ").unwrap(), "a b");
        assert!(valid_name("   ").is_err());
        assert!(valid_name(&"x".repeat(65)).is_err());
        assert!(valid_name("a\u{7}").is_err());
    }
}
