//! Verbs on accounts: sign-up and sign-in, sessions, API keys, invites, and what authentication looks up.
//!
//! [`Accounts`] needs a database, a clock and the server's key only. Each verb writes its audit row in its own
//! transaction, and a loss of rights its revocation and the mail that tells of it too. To add a verb, put it in the file
//! of its entity.

mod address;
mod change;
mod deletion;
mod invite;
mod key;
mod key_record;
mod outbox;
mod password;
mod session;
mod sign_in;
mod standing;
#[cfg(test)]
mod tests;
mod usage;

use std::{net::IpAddr, sync::Arc, time::Duration};

use reef_auth::{Caller, Credential, Passwords, SecretBox};
use reef_db::Db;
use reef_model::{ActorKind, Clock, Role, Timestamp, UserId};

pub use change::{AccountChange, Profile};
pub use deletion::Deleted;
pub use invite::InviteTerms;
pub(crate) use invite::redeem;
pub use key::{Grant, NewKey, PatchKey, Rotated};
pub use key_record::{KeyRecord, KeyRefused};
pub(crate) use outbox::Errand;
pub use session::{DbSessionStore, SignedIn};
pub use sign_in::{DEFAULT_OPERATOR_EMAIL, FirstOperator, SignUp};
pub use standing::StandingChange;

use crate::{Actor, ControlError};

const MAX_NAME_CHARS: usize = 100;
/// Nobody acts on what ended so long ago: a replica without the database fails closed after a minute.
const MEMORY: Duration = Duration::from_secs(24 * 3600);
/// How long a mail that was given up is shown to the operator.
const MAIL_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);
const PLACE_MEMORY: Duration = Duration::from_secs(180 * 24 * 3600);

/// The verbs on accounts. Cheap to clone; clones share what is kept in memory.
#[derive(Clone)]
pub struct Accounts {
    db: Db,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    secrets: SecretBox,
    uses: Arc<usage::Uses>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Actor {
    /// Returns the actor of an authenticated request.
    pub fn of(caller: &Caller, client: &Client) -> Self {
        let kind = match (caller.credential, caller.role) {
            (Credential::Key(_), _) => ActorKind::Key,
            (Credential::Session(_), Role::User) => ActorKind::User,
            (Credential::Session(_), Role::Operator) => ActorKind::Operator,
        };
        Self {
            tenant: caller.tenant,
            kind,
            id: Some(caller.actor_id()),
            request_id: client.request_id.clone(),
            ip: client.ip.map(|ip| ip.to_string()),
        }
    }

    /// Returns the actor of a request that proves who it is by its body: a sign-in, a sign-up.
    fn signing_in(user: UserId, client: &Client) -> Self {
        Self {
            tenant: user,
            kind: ActorKind::User,
            id: Some(user.to_string()),
            request_id: client.request_id.clone(),
            ip: client.ip.map(|ip| ip.to_string()),
        }
    }
}

impl Accounts {
    /// Returns the verbs over `db`, with a password hasher of their own; `secrets` seals what waits to be mailed.
    pub fn new(db: Db, clock: Arc<dyn Clock>, secrets: SecretBox) -> Self {
        Self { db, clock, passwords: Passwords::default(), secrets, uses: Arc::default() }
    }

    /// Removes what has ended: sessions, mailed tokens, leases of long ago, revocations that every replica has seen, mail
    /// that was given up, and places that nobody signs in from any more.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn sweep(&self) -> Result<(), ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        tx.reap_sessions(now).await?;
        tx.reap_leases(now - MEMORY).await?;
        tx.reap_revocations(now - MEMORY).await?;
        tx.reap_account_tokens(now).await?;
        tx.reap_mails(now - MAIL_MEMORY).await?;
        tx.reap_places(now - PLACE_MEMORY).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Trims a name and checks it: 1–100 printable characters.
fn valid_name(name: &str) -> Result<String, ControlError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(invalid("name", format!("give 1 to {MAX_NAME_CHARS} printable characters")));
    }
    Ok(name.to_owned())
}

fn invalid(field: &'static str, message: impl Into<String>) -> ControlError {
    ControlError::Invalid { field, message: message.into() }
}

impl From<reef_auth::PasswordError> for ControlError {
    fn from(error: reef_auth::PasswordError) -> Self {
        match error {
            reef_auth::PasswordError::Length => invalid("password", error.to_string()),
            reef_auth::PasswordError::Busy => Self::Overloaded,
        }
    }
}
