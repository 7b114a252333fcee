//! `GET /api/audit`: what was done in the account.

use axum::{extract::State, response::Response};
use reef_db::AuditFilter;
use reef_model::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Account, Caller},
    extract::{PageQuery, Query},
    views::AuditRecord,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which records of the audit.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only by this account or key, `usr_…` or `key_…`.
    #[serde(default)]
    actor: Option<String>,
    /// Only this action, `key.create` for instance, or all that begin with this word, `key`.
    #[serde(default)]
    action: Option<String>,
    /// Only what was done to this: an id.
    #[serde(default)]
    target: Option<String>,
    /// From this instant on.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Before this instant.
    #[serde(default)]
    to: Option<Timestamp>,
}

impl AuditQuery {
    /// Returns `path` with the query that asks for the same records, for the link to the next page.
    pub(crate) fn on(&self, path: &str) -> String {
        let instant = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("target", self.target.clone()),
            ("from", instant(self.from)),
            ("to", instant(self.to)),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

impl From<AuditQuery> for AuditFilter {
    fn from(query: AuditQuery) -> Self {
        let AuditQuery { actor, action, target, from, to } = query;
        // PostgreSQL takes no NUL in text; nothing recorded has any.
        let text = |text: Option<String>| text.map(|text| text.replace('\0', "\u{fffd}"));
        Self { actor: text(actor), action: text(action), target: text(target), from, to }
    }
}

/// Lists what was done in the account, newest first.
#[utoipa::path(
    get, path = "/api/audit", operation_id = "listAudit", tag = "Account",
    params(AuditQuery, PageQuery),
    responses((status = 200, description = "One page.", body = Vec<AuditRecord>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(wanted): Query<AuditQuery>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let path = wanted.on("/api/audit");
    let rows = state.control().db().list_audit(caller.tenant(), &wanted.into(), page.page()?).await?;
    Ok(page.answer(&path, rows, |row| row.id.as_uuid(), |_| true, AuditRecord::for_holder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_no_database_for_a_nul() {
        let query = AuditQuery { action: Some("key\0".into()), ..AuditQuery::default() };
        assert_eq!(AuditFilter::from(query).action.as_deref(), Some("key\u{fffd}"));
    }
}
