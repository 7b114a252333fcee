//! How much of requests and answers the door holds in memory at a time, over all of them.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, header};
use reef_door::ErrorCode;
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::problem::Problem;

/// The largest body that is held: 16 MiB in base64, and the JSON around them.
pub(super) const MAX_BODY: usize = 24 << 20;
/// Each byte is there as it came, as read from JSON, and decoded or written again.
const COPIES: u64 = 3;
/// KiB over all: two of the largest bodies, or one of the largest listings.
const LIMIT_KIB: u32 = 192 << 10;
/// How long a request waits for others to end.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER_SECONDS: u32 = 5;

/// The room that is left. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Held(Arc<Semaphore>);

/// Room that is taken until this is dropped.
#[derive(Debug, Clone)]
pub(super) struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Default for Held {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LIMIT_KIB as usize)))
    }
}

impl Held {
    /// Takes room for so many bytes and what is made of them; waits a while for it.
    ///
    /// # Errors
    /// `CAPACITY` when others have kept it for too long.
    pub(super) async fn take(&self, bytes: u64) -> Result<Room, Problem> {
        let kib = u32::try_from((bytes * COPIES).div_ceil(1024)).unwrap_or(LIMIT_KIB).clamp(1, LIMIT_KIB);
        match timeout(PATIENCE, self.0.clone().acquire_many_owned(kib)).await {
            Ok(Ok(permit)) => Ok(Room { _permit: Arc::new(permit) }),
            Ok(Err(_)) | Err(_) => Err(Problem::new(
                ErrorCode::Capacity,
                "The instance is busy with other large requests. Try again in a moment.",
            )
            .with(json!({ "reason": "busy" }))
            .retry_after(RETRY_AFTER_SECONDS)),
        }
    }
}

/// Takes room for the bodies of requests. It is free when their handler has dropped its [`super::problem::Body`].
pub(super) async fn hold(
    State(held): State<Held>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !is_carried(&request) && !request.body().is_end_stream() {
        let most = MAX_BODY as u64;
        let room = held.take(request.body().size_hint().upper().map_or(most, |size| size.min(most))).await?;
        request.extensions_mut().insert(room);
    }
    Ok(next.run(request).await)
}

/// Tells whether the body is bytes that are carried further as they come.
pub(super) fn is_carried(request: &Request) -> bool {
    request.method() == Method::PUT || request.uri().path() == "/files/archive"
}

/// Answers with JSON that keeps its room until it is sent.
pub(super) fn json_in(room: Option<Room>, value: &impl Serialize) -> Result<Response, Problem> {
    struct Answer {
        text: Vec<u8>,
        _room: Option<Room>,
    }
    impl AsRef<[u8]> for Answer {
        fn as_ref(&self) -> &[u8] {
            &self.text
        }
    }
    let text = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Problem::new(ErrorCode::InternalError, "The answer could not be written.")
    })?;
    let body = Body::from(Bytes::from_owner(Answer { text, _room: room }));
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], body).into_response())
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        extract::DefaultBodyLimit,
        middleware::{from_fn, from_fn_with_state},
        routing::post,
    };
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::door::problem;

    fn request(method: &str, bytes: usize) -> Request {
        let body = Body::from(format!("\"{}\"", "x".repeat(bytes - 2)));
        Request::builder().method(method).uri("/files/write").body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_have_room_while_they_are_used_and_are_refused_where_there_is_none() {
        let held = Held::default();
        let left = {
            let held = held.clone();
            move || held.0.available_permits()
        };
        let seen = left.clone();
        let app = Router::new()
            .route(
                "/files/write",
                post(move |body: problem::Body<String>| {
                    let text = seen().to_string();
                    drop(body);
                    std::future::ready(text)
                })
                .put(async |body: Bytes| body.len().to_string()),
            )
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn_with_state(held.clone(), hold))
            .layer(from_fn(problem::render));
        let send = async |method, bytes| {
            let response = app.clone().oneshot(request(method, bytes)).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head, String::from_utf8(body.to_vec()).unwrap())
        };
        let all = left();
        assert_eq!(send("POST", 10 << 10).await.1, (all - 30).to_string());
        assert_eq!(left(), all);

        let rooms = [held.take(MAX_BODY as u64).await.unwrap(), held.take(MAX_BODY as u64).await.unwrap()];
        let (head, body) = send("POST", MAX_BODY).await;
        assert_eq!((head.status.as_u16(), &head.headers["retry-after"]), (503, &"5".parse().unwrap()));
        assert!(body.contains("CAPACITY"), "{body}");
        // Small ones, and those that are carried, go on.
        assert_eq!(send("POST", 100).await.0.status, 200);
        assert_eq!(send("PUT", MAX_BODY).await.1, MAX_BODY.to_string());
        drop(rooms);
        assert_eq!(left(), all);
    }

    #[tokio::test]
    async fn an_answer_keeps_its_room_until_it_is_sent() {
        let held = Held::default();
        let room = held.take(10 << 10).await.unwrap();
        let response = json_in(Some(room), &"text").unwrap();
        assert_eq!(held.0.available_permits(), LIMIT_KIB as usize - 30);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "\"text\"");
        assert_eq!(held.0.available_permits(), LIMIT_KIB as usize);
    }
}
