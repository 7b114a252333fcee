//! The account: itself, signing in and out, what is done by mail, sessions, keys, invite codes, tickets, use, the audit.

mod audit;
mod auth;
mod invites;
mod keys;
mod profile;
mod recovery;
mod sessions;
mod ticket;
mod usage;

pub(super) use audit::AuditQuery;
use utoipa_axum::router::OpenApiRouter;

use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    auth::routes()
        .merge(recovery::routes())
        .merge(profile::routes())
        .merge(ticket::routes())
        .merge(sessions::routes())
        .merge(keys::routes())
        .merge(invites::routes())
        .merge(usage::routes())
        .merge(audit::routes())
}
