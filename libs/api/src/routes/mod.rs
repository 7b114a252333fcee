//! One operation, or one small resource, per file. A handler that is not documented cannot be mounted.
//!
//! To add a route: a file here with its handler, its `utoipa::path` and the marks `x-reef-scope`, `x-reef-wakes` and, for
//! streams, `x-reef-kind`; name it in [`all`]; write the document anew (`openapi.rs` says how). A route that the instance
//! answers is declared with `passed_on!` (`pass.rs`).

mod account;
mod admin;
mod chat;
mod desktop;
mod discovery;
mod files;
mod instances;
mod operations;
mod pass;
mod terminal;

use utoipa_axum::router::OpenApiRouter;

use crate::ApiState;

/// Returns every route of the API, with its part of the document.
pub(crate) fn all() -> OpenApiRouter<ApiState> {
    discovery::routes()
        .merge(account::routes())
        .merge(admin::routes())
        .merge(instances::routes())
        .merge(operations::routes())
        .merge(chat::routes())
        .merge(files::routes())
        .merge(terminal::routes())
        .merge(desktop::routes())
}
