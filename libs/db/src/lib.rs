//! The database: pools, transactions, every SQL statement, embedded migrations.
//!
//! One SQL text serves SQLite and PostgreSQL. Reads are methods of [`Db`], writes of [`Tx`]: the handle is the
//! transaction. Whatever belongs to a tenant takes the tenant first and binds it; methods that end in `_any` are for
//! reconcilers. Absence is `Ok(None)`. Rows are not views: none derives `Serialize`, so that a new column cannot leak.
//! Time and ids come in as arguments. This crate decides nothing: rules live in `reef-control`.
//!
//! To add a statement, write it in the `statements!` block of its entity: that makes the method *and* enters the text
//! into [`statements`], which a test prepares on both engines. To add a column, write the next migration, under the
//! same file name in `migrations/sqlite` and `migrations/postgres`; expand first, contract in a later release.
//!
//! Texts that differ by engine ([`Sql::differing`]): row locks (`FOR UPDATE`, which SQLite neither has nor needs, its
//! write transactions being exclusive), the wake of other replicas (`pg_notify`), and the day of an instant.

mod account_token;
mod api_key;
mod audit;
mod database;
mod error;
mod instance;
mod invite;
mod lease;
mod mail;
mod named_request;
mod operation;
mod page;
mod revocation;
mod session;
mod setting;
mod statement;
mod transaction;
mod usage;
mod user;
mod wake;

pub use account_token::{AccountTokenRow, NewAccountToken};
pub use api_key::{ApiKeyChange, ApiKeyRow, KeyUse, NewApiKey};
pub use audit::{AuditEntry, AuditFilter, AuditRow};
pub use database::Db;
pub use error::{ConnectError, DbError, Unique};
pub use instance::{Fact, InstanceChange, InstanceRow, IntentChange, NewInstance, OwnedInstance};
pub use invite::{EntitlementRow, InviteRow, NewEntitlement, NewInvite};
pub use mail::{ClaimedMail, MailCounts, MailRow, NewMail};
pub use named_request::{NamedRequestRow, RequestAnswer, RequestClaim};
pub use operation::{NewOperation, OperationError, OperationRow};
pub use page::Page;
pub use revocation::RevocationRow;
pub use session::{SaveSession, SessionRow, SessionUse};
pub use sqlx::types::Json;
pub use statement::{Sql, Statement};
pub use transaction::Tx;
pub use usage::{ModelUse, UsageRow};
pub use user::{NewUser, UserRow, UserSummary};
pub use wake::Wake;

/// Returns every SQL statement of this crate, so that a test can prepare each on both engines.
pub fn statements() -> impl Iterator<Item = &'static Statement> {
    [
        account_token::STATEMENTS,
        api_key::STATEMENTS,
        audit::STATEMENTS,
        instance::STATEMENTS,
        invite::STATEMENTS,
        lease::STATEMENTS,
        mail::STATEMENTS,
        named_request::STATEMENTS,
        operation::STATEMENTS,
        revocation::STATEMENTS,
        session::STATEMENTS,
        setting::STATEMENTS,
        transaction::STATEMENTS,
        usage::STATEMENTS,
        user::STATEMENTS,
    ]
    .into_iter()
    .flatten()
}
