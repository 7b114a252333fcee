//! `POST …/files/url`: a link to one file that needs no other credentials.

use std::time::Duration;

use axum::extract::State;
use reef_auth::{Claims, FileLink};
use reef_door::files::{FileUrl, FileUrlMethod, FileUrlRequest};
use reef_model::InstanceId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiError, ApiResult, ApiState, caller::Files, extract::Json, instance_route::InstanceRoute};

const DEFAULT_SECONDS: u32 = 900;
const MAX_SECONDS: u32 = 604_800;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(create))
}

/// Makes a link to one file, for one method, that needs no other credentials.
///
/// It ends with its time, and earlier where the key or session that made it ends or loses the right to these files.
#[utoipa::path(
    post, path = "/api/instances/{id}/files/url", operation_id = "createFileUrl", tag = "Files",
    params(("id" = InstanceId, Path)),
    request_body(content = FileUrlRequest, example = json!({"path": "/workspace/report.pdf", "method": "GET", "expires_seconds": 3600})),
    responses((status = 200, description = "The link.", body = FileUrl)),
    extensions(("x-reef-scope" = json!("files")), ("x-reef-wakes" = json!(false))),
)]
async fn create(
    route: InstanceRoute<Files>,
    State(state): State<ApiState>,
    Json(body): Json<FileUrlRequest>,
) -> ApiResult<Json<FileUrl>> {
    let seconds = body.expires_seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(ApiError::invalid([("expires_seconds", format!("give 1 to {MAX_SECONDS}"))]));
    }
    if body.path.is_empty() || body.path.contains('\0') {
        return Err(ApiError::invalid([("path", "give the path of a file".to_owned())]));
    }
    let principal = &route.caller.identity().principal;
    let claims = Claims {
        user: principal.tenant,
        credential: principal.credential,
        expires_at: state.control().now() + Duration::from_secs(u64::from(seconds)),
    };
    let method = match body.method {
        FileUrlMethod::Get => "GET",
        FileUrlMethod::Put => "PUT",
    };
    let link = FileLink { instance: route.id, method, path: &body.path };
    let signature = link.sign(claims, state.control().secrets());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("path", &body.path)
        .append_pair("signature", &signature)
        .finish();
    let url = format!("{}/api/instances/{}/files/content?{query}", state.origin(), route.id);
    Ok(Json(FileUrl { url, method: body.method, expires_at: claims.expires_at }))
}
