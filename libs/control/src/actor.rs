//! Who acts: the tenant whose rows are touched, and the words for the audit.

use reef_db::AuditEntry;
use reef_model::{ActorKind, AuditId, Timestamp, UserId};

/// Who asks for a verb.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The tenant that the verb is for.
    pub tenant: UserId,
    /// What kind of actor.
    pub kind: ActorKind,
    /// The id of the user or key, in text form.
    pub id: Option<String>,
    /// The request, where there is one.
    pub request_id: Option<String>,
    /// The client's address, where there is one.
    pub ip: Option<String>,
}

impl Actor {
    /// Reef itself, for a tenant.
    pub fn system(tenant: UserId) -> Self {
        Self { tenant, kind: ActorKind::System, id: None, request_id: None, ip: None }
    }

    /// The same operator, acting on the rows of `tenant`.
    pub(crate) fn acting_on(&self, tenant: UserId) -> Self {
        Self { tenant, kind: ActorKind::Operator, ..self.clone() }
    }

    /// Nobody who has signed in, about a tenant.
    pub(crate) fn anonymous(tenant: UserId) -> Self {
        Self { kind: ActorKind::Anonymous, ..Self::system(tenant) }
    }

    /// Returns the audit row of `action` (as `instance.stop`) on `target` (an id in text form).
    pub fn entry(&self, action: &'static str, target: impl ToString, at: Timestamp) -> AuditEntry {
        AuditEntry {
            id: AuditId::generate(),
            tenant: Some(self.tenant),
            actor_kind: self.kind,
            actor_id: self.id.clone(),
            action,
            target: Some(target.to_string()),
            details: serde_json::json!({}),
            request_id: self.request_id.clone(),
            ip: self.ip.clone(),
            at,
        }
    }
}
