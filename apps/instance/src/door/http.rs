//! The door's own routes, and what holds for all of them: the token, request ids, one error body.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue};
use reef_door::{ErrorBody, ErrorCode, headers};
use reef_model::RequestId;
use serde::Deserialize;

use super::{logs::LogRing, model::is_bearer, status::StatusBoard};

const MAX_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_LOG_LINES: usize = 200;
const MAX_LOG_LINES: usize = 2000;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) door_token: Arc<str>,
    pub(crate) status: Arc<StatusBoard>,
    pub(crate) logs: Arc<LogRing>,
}

/// Puts the door's routes and `chat` behind the token.
pub(crate) fn router(routes: Routes, chat: Router) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/logs", get(logs))
        .with_state(routes.clone())
        .merge(chat)
        .fallback(async |headers: HeaderMap| error(&headers, ErrorCode::NotFound, "there is no such route"))
        .method_not_allowed_fallback(async |headers: HeaderMap| {
            error(&headers, ErrorCode::MethodNotAllowed, "this route does not take that method")
        })
        .layer(middleware::from_fn_with_state(routes, guard))
}

/// Lets through who has the door's token; gives the request an id, and the answer the same one.
async fn guard(State(routes): State<Routes>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(headers::REQUEST_ID).filter(|id| is_request_id(id)).cloned();
    let id = given.or_else(|| HeaderValue::from_str(&RequestId::generate().to_string()).ok());
    if let Some(id) = &id {
        request.headers_mut().insert(headers::REQUEST_ID, id.clone());
    }
    let mut response = if is_bearer(request.headers(), &routes.door_token) {
        // Nobody behind this needs it.
        request.headers_mut().remove(http::header::AUTHORIZATION);
        next.run(request).await
    } else {
        error(request.headers(), ErrorCode::Unauthorized, "the door's token is missing or wrong")
    };
    if let Some(id) = id {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

fn is_request_id(id: &HeaderValue) -> bool {
    !id.is_empty() && id.len() <= 128 && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn error(headers: &HeaderMap, code: ErrorCode, message: &'static str) -> Response {
    let id = headers.get(headers::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let body = ErrorBody::new(code, message, serde_json::Value::Null, id);
    (code.status(), Json(body)).into_response()
}

#[derive(Deserialize)]
struct StatusQuery {
    after: Option<u64>,
    wait: Option<u64>,
}

async fn status(
    State(routes): State<Routes>,
    headers: HeaderMap,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else { return bad_query(&headers) };
    let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(MAX_WAIT);
    let newer = routes.status.newer_than(query.after.unwrap_or(0));
    Json(tokio::time::timeout(wait, newer).await.unwrap_or_else(|_| routes.status.get())).into_response()
}

#[derive(Deserialize)]
struct LogsQuery {
    lines: Option<usize>,
}

async fn logs(
    State(routes): State<Routes>,
    headers: HeaderMap,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else { return bad_query(&headers) };
    Json(routes.logs.tail(query.lines.unwrap_or(DEFAULT_LOG_LINES).min(MAX_LOG_LINES))).into_response()
}

fn bad_query(headers: &HeaderMap) -> Response {
    error(headers, ErrorCode::InvalidRequest, "the query wants whole numbers")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use reef_door::DoorPhase;
    use reef_model::{Isolation, SystemClock};
    use tower::ServiceExt;

    use super::*;

    fn routes() -> Routes {
        Routes {
            door_token: "right".into(),
            status: Arc::new(StatusBoard::new(3, Isolation::None)),
            logs: Arc::new(LogRing::new(Arc::new(SystemClock))),
        }
    }

    async fn ask(routes: &Routes, method: &str, path: &str, token: &str) -> (StatusCode, serde_json::Value) {
        let chat = Router::new().route("/chat", axum::routing::post(async || "chat"));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("x-request-id", "abc")
            .body(Body::empty())
            .unwrap();
        let response = router(routes.clone(), chat).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["x-request-id"], "abc");
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn every_path_wants_the_token_and_every_error_has_the_body() {
        let routes = routes();
        for path in ["/status", "/logs", "/chat", "/nothing"] {
            for token in ["", "wrong", "right "] {
                let (status, body) = ask(&routes, "GET", path, token).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {token:?}");
                assert_eq!(body["error"]["code"], "UNAUTHORIZED");
            }
        }
        let (status, body) = ask(&routes, "GET", "/nothing", "right").await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &"NOT_FOUND".into()));
        assert_eq!(body["request_id"], "abc");
        for (method, path) in [("POST", "/status"), ("GET", "/chat")] {
            let (status, body) = ask(&routes, method, path, "right").await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(body["error"]["code"], "METHOD_NOT_ALLOWED");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn status_waits_for_a_newer_revision_or_the_time() {
        let routes = routes();
        let (_, now) = ask(&routes, "GET", "/status", "right").await;
        assert_eq!((&now["revision"], &now["phase"]), (&1.into(), &"starting".into()));
        let (_, same) = ask(&routes, "GET", "/status?after=1&wait=5", "right").await;
        assert_eq!(same["revision"], 1);
        let ((_, newer), ()) = tokio::join!(ask(&routes, "GET", "/status?after=1&wait=60", "right"), async {
            routes.status.set_phase(DoorPhase::Ready, None);
        });
        assert_eq!((&newer["revision"], &newer["phase"]), (&2.into(), &"ready".into()));
    }
}
