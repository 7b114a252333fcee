//! What was done by whom.

use reef_model::{ActorKind, AuditId, Timestamp, UserId};
use sqlx::types::Json;

use crate::{Page, Sql, statement::statements};

/// A record to be written in the transaction of what it speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The id.
    pub id: AuditId,
    /// Whose rows were touched; `None`: the deployment's own.
    pub tenant: Option<UserId>,
    /// Who acted.
    pub actor_kind: ActorKind,
    /// The actor's id in text form.
    pub actor_id: Option<String>,
    /// What was done, as `key.create`.
    pub action: &'static str,
    /// The id of what it was done to, in text form.
    pub target: Option<String>,
    /// More, as a JSON object; never a secret.
    pub details: serde_json::Value,
    /// The request.
    pub request_id: Option<String>,
    /// The client's address.
    pub ip: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A record as it was written; the fields are those of [`AuditEntry`].
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "said at the fields of AuditEntry")]
pub struct AuditRow {
    pub id: AuditId,
    pub user_id: Option<UserId>,
    pub actor_kind: ActorKind,
    pub actor_id: Option<String>,
    pub action: String,
    pub target: Option<String>,
    pub details: Json<serde_json::Value>,
    pub request_id: Option<String>,
    pub ip: Option<String>,
    pub at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, user_id, actor_kind, actor_id, action, target, details, request_id, ip, at"
    };
}

/// Which records; what is `None` does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The actor's id in text form.
    pub actor: Option<String>,
    /// What was done, `key.create`, or its first word, `key`.
    pub action: Option<String>,
    /// The id of what it was done to, in text form.
    pub target: Option<String>,
    /// From this instant on.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
}

// The casts tell PostgreSQL the type of what may be null.
macro_rules! filtered {
    () => {
        "(CAST($3 AS TEXT) IS NULL OR actor_id = $3) \
         AND (CAST($4 AS TEXT) IS NULL OR action = $4 OR substr(action, 1, length($4) + 1) = $4 || '.') \
         AND (CAST($5 AS TEXT) IS NULL OR target = $5) AND at >= $6 AND at < $7"
    };
}

statements! {
    /// Returns a page of the tenant's records, newest first.
    pub Db.list_audit(tenant: UserId, filter: &AuditFilter, page: Page) -> Vec<AuditRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM audit WHERE user_id = $1 AND id < $2 AND ", filtered!(),
            " ORDER BY id DESC LIMIT $8"
        )),
        [tenant, page.bound(), filter.actor.as_deref(), filter.action.as_deref(), filter.target.as_deref(),
         filter.first(), filter.end(), page.limit];

    /// Returns a page of all records, newest first, for operators.
    pub Db.list_audit_any(filter: &AuditFilter, page: Page) -> Vec<AuditRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM audit WHERE id < $1 AND ", filtered!(), " ORDER BY id DESC LIMIT $2"
        )),
        [page.bound(), page.limit, filter.actor.as_deref(), filter.action.as_deref(), filter.target.as_deref(),
         filter.first(), filter.end()];

    /// Writes a record.
    pub Tx.insert_audit(entry: &AuditEntry) -> Count
        = Sql::same(concat!(
            "INSERT INTO audit (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        )),
        [entry.id, entry.tenant, entry.actor_kind, entry.actor_id.as_deref(), entry.action, entry.target.as_deref(),
         Json(&entry.details), entry.request_id.as_deref(), entry.ip.as_deref(), entry.at];

    /// Removes the records of an account.
    pub Tx.delete_audit(tenant: UserId) -> Count
        = Sql::same("DELETE FROM audit WHERE user_id = $1"),
        [tenant];
}

impl AuditFilter {
    fn first(&self) -> Timestamp {
        self.from.unwrap_or(Timestamp::from_unix_micros(i64::MIN))
    }

    fn end(&self) -> Timestamp {
        self.to.unwrap_or(Timestamp::from_unix_micros(i64::MAX))
    }
}
