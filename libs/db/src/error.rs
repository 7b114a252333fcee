//! What can go wrong below the verbs.

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another row has this already.
    #[error("{0:?} is taken")]
    Conflict(Unique),
    /// The database cannot be reached, or is too busy; trying again may help.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Anything else: a bug, a damaged database.
    #[error("the database refused a statement")]
    Other(#[source] sqlx::Error),
}

/// Which uniqueness was violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// An account with this address exists.
    UserEmail,
    /// A key with this secret exists.
    ApiKeySecret,
    /// A session with this token exists.
    SessionToken,
    /// An invite with this code exists.
    InviteCode,
    /// The instance holds an entitlement already.
    EntitlementInstance,
    /// An operation of the instance is running.
    RunningOperation,
    /// An id or another key.
    Other,
}

impl Unique {
    /// Tells from what the engine says: PostgreSQL names the index, SQLite the columns.
    fn from_error(error: &dyn sqlx::error::DatabaseError) -> Self {
        match error.constraint().unwrap_or_else(|| error.message().rsplit(": ").next().unwrap_or_default()) {
            "users_email" | "users.email" => Self::UserEmail,
            "api_keys_secret_hash" | "api_keys.secret_hash" => Self::ApiKeySecret,
            "sessions_token_hash" | "sessions.token_hash" => Self::SessionToken,
            "invites_code_hash" | "invites.code_hash" => Self::InviteCode,
            "entitlements_instance" | "entitlements.instance_id" => Self::EntitlementInstance,
            "operations_running" | "operations.instance_id" => Self::RunningOperation,
            _ => Self::Other,
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(inner) if inner.is_unique_violation() => {
                Self::Conflict(Unique::from_error(inner.as_ref()))
            }
            sqlx::Error::Database(inner) if is_transient(inner.code().as_deref().unwrap_or_default()) => {
                Self::Unavailable(error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Other(error),
        }
    }
}

/// PostgreSQL: connection exceptions (08), resources (53), shutdown (57P), serialization and deadlock (40).
/// SQLite: `SQLITE_BUSY`, `SQLITE_LOCKED` and their extended codes.
fn is_transient(code: &str) -> bool {
    let is_sqlstate = code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_sqlstate {
        return ["08", "53", "57P", "40"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address names no engine that Reef knows.
    #[error("the database URL must start with sqlite:// or postgres://")]
    Scheme,
    /// The address cannot be read.
    #[error("the database URL is not valid")]
    Url(#[source] sqlx::Error),
    /// The file's directory or the file cannot be made.
    #[error("cannot make the database file {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server does not answer, or refuses us.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The schema cannot be brought up to date.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

#[cfg(test)]
mod tests {
    use super::is_transient;

    #[test]
    fn knows_what_may_pass() {
        for code in ["5", "6", "261", "517", "08006", "57P01", "40P01", "53300"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["", "1", "19", "2067", "23505", "42P01", "57014"] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
