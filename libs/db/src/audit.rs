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

statements! {
    /// Returns a page of the tenant's records, newest first.
    pub Db.list_audit(tenant: UserId, page: Page) -> Vec<AuditRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM audit WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        )),
        [tenant, page.bound(), page.limit];

    /// Returns a page of all records, newest first, for operators.
    pub Db.list_audit_any(page: Page) -> Vec<AuditRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2")),
        [page.bound(), page.limit];

    /// Writes a record.
    pub Tx.insert_audit(entry: &AuditEntry) -> Count
        = Sql::same(concat!(
            "INSERT INTO audit (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        )),
        [entry.id, entry.tenant, entry.actor_kind, entry.actor_id.as_deref(), entry.action, entry.target.as_deref(),
         Json(&entry.details), entry.request_id.as_deref(), entry.ip.as_deref(), entry.at];
}
