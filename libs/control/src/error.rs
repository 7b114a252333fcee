//! Why a verb did not happen.

use reef_db::DbError;
use reef_model::{OperationId, OperationKind, Status};
use reef_runtime::RuntimeError;

/// Why a verb did not happen; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing that the caller may know of.
    #[error("not found")]
    NotFound,
    /// A field's value cannot be taken.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What would be right.
        message: String,
    },
    /// It contradicts the present state; the message says what to do.
    #[error("{0}")]
    Conflict(String),
    /// The row was changed since the caller read it.
    #[error("it was changed in the meantime; read it again and repeat the change")]
    Stale,
    /// Another operation is under way.
    #[error("operation {id} ({kind}) is under way; wait for it")]
    Busy {
        /// The operation.
        id: OperationId,
        /// What it does.
        kind: OperationKind,
    },
    /// The state allows no such verb.
    #[error("not possible while the instance is {0}")]
    NotNow(Status),
    /// The caller has no free entitlement.
    #[error("a subscription or an invite code is needed")]
    EntitlementRequired,
    /// The invite code is unknown, used up, expired or withdrawn: which of these is not told.
    #[error("this invite code is not valid or is used up")]
    InviteInvalid,
    /// The credentials do not match; which part is wrong is not told.
    #[error("wrong e-mail address or password")]
    BadCredentials,
    /// The operator has locked the account; told only to who knows its password.
    #[error("the account is locked")]
    Locked,
    /// Too much of the same work is waiting.
    #[error("too busy; try again in a moment")]
    Overloaded,
    /// The runtime failed.
    #[error("the runtime failed")]
    Runtime(#[from] RuntimeError),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] DbError),
    /// A secret at rest could not be read: the server key is another one.
    #[error("a stored secret cannot be decrypted; is REEF_SECRET_KEY the one that wrote it?")]
    Secret,
    /// A local file or socket failed.
    #[error("a local file or socket failed")]
    Io(#[from] std::io::Error),
}
