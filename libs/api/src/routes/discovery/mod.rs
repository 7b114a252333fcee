//! What needs no key: health, the index, documents.

mod documents;
mod health;
mod index;

use utoipa_axum::router::OpenApiRouter;

use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    health::routes().merge(index::routes()).merge(documents::routes())
}
