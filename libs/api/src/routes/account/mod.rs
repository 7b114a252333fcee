//! The account: signing in and out, sessions, keys, invite codes, tickets, the audit.

mod audit;
mod auth;
mod invites;
mod keys;
mod sessions;
mod ticket;

use utoipa_axum::router::OpenApiRouter;

use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    auth::routes()
        .merge(ticket::routes())
        .merge(sessions::routes())
        .merge(keys::routes())
        .merge(invites::routes())
        .merge(audit::routes())
}
