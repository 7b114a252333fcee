//! Pages.
use crate::ApiState;
use axum::Router;
/// Routes.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
}
