//! `/api/instances`: the instances of the caller.

mod change;
mod collection;
mod events;
mod logs;
mod power;
mod status;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reef_db::InstanceRow;
use utoipa_axum::router::OpenApiRouter;

pub(super) use power::outcome;

use crate::{ApiState, views::Instance};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    collection::routes()
        .merge(change::routes())
        .merge(power::routes())
        .merge(status::routes())
        .merge(logs::routes())
        .merge(events::routes())
}

/// Returns an instance with its `ETag`.
fn answer(state: &ApiState, status: StatusCode, row: InstanceRow) -> Response {
    let etag = etag(&row);
    let instance = Instance::of(row, state.origin());
    let mut response = (status, axum::Json(instance)).into_response();
    if let Ok(etag) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn etag(row: &InstanceRow) -> String {
    format!("\"{}\"", row.updated_at.unix_micros())
}
