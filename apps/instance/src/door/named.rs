//! `Idempotency-Key` on the routes of files, commands and the desktop: a repeated request is answered, not done again.
//!
//! Names are each caller's own. The first request under a name runs to its end even where its client goes away; its answer
//! is kept for a day if it was a success, and an error frees the name. What runs is known to this process alone: with it
//! the name is free again. Raw bodies and streams are not remembered, and chat remembers turns by itself.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reef_door::{
    ErrorCode,
    headers::{CALLER, IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED},
};
use reef_model::Clock;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{
    held::is_carried,
    problem::{Problem, whole_body},
};

const NAME_BYTES: usize = 255;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Of a larger answer it is known only that it was given.
const ANSWER_BYTES: u64 = 64 << 10;
/// Answers that are kept; the oldest go.
const ANSWERS: i64 = 2048;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    caller TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL,
    etag TEXT,
    -- None: too large to be kept.
    body BLOB,
    created_at TEXT NOT NULL,
    UNIQUE (caller, name)
) STRICT;
CREATE INDEX IF NOT EXISTS answers_age ON answers (created_at);";

/// What a client calls a request, and whose name it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) caller: String,
    pub(super) name: String,
}

impl Name {
    /// Reads the name, if there is one.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let name = value.to_str().ok().filter(|name| (1..=NAME_BYTES).contains(&name.len()));
        let name =
            name.ok_or_else(|| Problem::field("Idempotency-Key", "must be 1 to 255 printable characters"))?;
        // The control plane says who calls; without it there is but one caller.
        let caller = headers.get(CALLER).and_then(|caller| caller.to_str().ok()).unwrap_or_default();
        Ok(Some(Self { caller: caller.to_owned(), name: name.to_owned() }))
    }
}

/// The answer to a name that came before with another request.
pub(super) fn name_reused() -> Problem {
    Problem::field(
        "Idempotency-Key",
        "was used with another request in the last 24 hours; use a new one for a new request",
    )
}

/// Marks an answer as that of an earlier request.
pub(super) fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
}

type Fingerprint = [u8; 32];

/// The named requests of an instance.
pub(super) struct Requests {
    running: Mutex<HashMap<Name, Fingerprint>>,
    answers: tokio::sync::Mutex<SqliteConnection>,
    clock: Arc<dyn Clock>,
}

impl Requests {
    /// Opens what is kept in the door's private directory.
    pub(super) async fn open(state_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(state_dir.join("requests.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let mut answers = SqliteConnection::connect_with(&options).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut answers).await?;
        Ok(Arc::new(Self { running: Mutex::default(), answers: tokio::sync::Mutex::new(answers), clock }))
    }

    /// Takes a name for a request, unless one runs under it.
    fn claim(self: &Arc<Self>, name: Name, fingerprint: Fingerprint) -> Result<Claim, Problem> {
        let mut running = self.running();
        match running.get(&name) {
            Some(known) if *known != fingerprint => Err(name_reused()),
            Some(_) => Err(Problem::new(
                ErrorCode::Conflict,
                "A request with this Idempotency-Key still runs: repeat it in a moment.",
            )
            .with(json!({ "reason": "still_running" }))
            .retry_after(2)),
            None => {
                running.insert(name.clone(), fingerprint);
                Ok(Claim { requests: self.clone(), name, fingerprint })
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Name, Fingerprint>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is kept.
#[derive(sqlx::FromRow)]
struct AnswerRow {
    fingerprint: Vec<u8>,
    status: u16,
    etag: Option<String>,
    /// None: too large to be kept.
    body: Option<Vec<u8>>,
}

/// A name while its request runs.
struct Claim {
    requests: Arc<Requests>,
    name: Name,
    fingerprint: Fingerprint,
}

impl Claim {
    /// Returns the answer to an earlier request of this name.
    async fn replay(&self) -> Result<Option<Response>, Problem> {
        let since = self.requests.clock.now() - KEPT_FOR;
        let row: Option<AnswerRow> = sqlx::query_as(
            "SELECT fingerprint, status, etag, body FROM answers
             WHERE caller = $1 AND name = $2 AND created_at >= $3",
        )
        .bind(&self.name.caller)
        .bind(&self.name.name)
        .bind(since)
        .fetch_optional(&mut *self.requests.answers.lock().await)
        .await
        .map_err(|error| {
            tracing::error!(%error, "cannot look an Idempotency-Key up");
            Problem::new(
                ErrorCode::InternalError,
                "The instance cannot tell whether this was done before. Try again.",
            )
        })?;
        let Some(AnswerRow { fingerprint, status, etag, body }) = row else { return Ok(None) };
        if fingerprint != self.fingerprint {
            return Err(name_reused());
        }
        let Some(body) = body else {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "The request with this Idempotency-Key was done, but its answer was too large to be kept.",
            )
            .with(json!({ "reason": "answer_not_kept", "status": status })));
        };
        let mut response = StatusCode::from_u16(status).unwrap_or_default().into_response();
        mark_replayed(&mut response);
        if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        if !body.is_empty() {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = body.into();
        }
        Ok(Some(response))
    }

    /// Keeps a success.
    async fn keep(&self, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (head, mut body) = response.into_parts();
        let mut kept = None;
        if body.size_hint().upper().is_some_and(|size| size <= ANSWER_BYTES)
            && let Ok(bytes) = axum::body::to_bytes(std::mem::take(&mut body), ANSWER_BYTES as usize).await
        {
            body = Body::from(bytes.clone());
            kept = Some(bytes);
        }
        let etag = head.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        if let Err(error) = self.store(head.status, etag, kept.as_deref()).await {
            tracing::error!(%error, "the answer to a named request is not kept");
        }
        Response::from_parts(head, body)
    }

    async fn store(
        &self,
        status: StatusCode,
        etag: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<(), sqlx::Error> {
        let now = self.requests.clock.now();
        let mut answers = self.requests.answers.lock().await;
        sqlx::query(
            "INSERT OR REPLACE INTO answers (caller, name, fingerprint, status, etag, body, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&self.name.caller)
        .bind(&self.name.name)
        .bind(&self.fingerprint[..])
        .bind(status.as_u16())
        .bind(etag)
        .bind(body)
        .bind(now)
        .execute(&mut *answers)
        .await?;
        sqlx::query(
            "DELETE FROM answers WHERE created_at < $1 OR seq <= (SELECT MAX(seq) FROM answers) - $2",
        )
        .bind(now - KEPT_FOR)
        .bind(ANSWERS)
        .execute(&mut *answers)
        .await?;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.requests.running().remove(&self.name);
    }
}

/// The layer itself.
pub(super) async fn remember(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !is_remembered(&request) {
        return Ok(next.run(request).await);
    }
    let Some(name) = Name::of(request.headers())? else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = whole_body(body).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut hasher = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b"\n", &body] {
        hasher.update(part);
    }
    let claim = requests.claim(name, hasher.finalize().into())?;
    let request = Request::from_parts(parts, Body::from(body));
    // In a task of its own: a client that goes away ends nothing half-way.
    let running = tokio::spawn(async move {
        match claim.replay().await? {
            Some(replayed) => Ok(replayed),
            None => Ok(claim.keep(next.run(request).await).await),
        }
    });
    running.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Tells whether a request changes something, with a body and an answer that are held and not carried.
fn is_remembered(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_streamed = accept.is_some_and(|accept| accept.contains("text/event-stream"));
    !request.method().is_safe() && !is_carried(request) && !is_streamed
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        middleware::{from_fn, from_fn_with_state},
        routing::{post, put},
    };
    use http_body_util::BodyExt;
    use reef_model::{ManualClock, Timestamp};
    use serde_json::Value;
    use tokio::sync::watch;
    use tower::ServiceExt;

    use super::*;
    use crate::door::problem;

    /// Routes that count what is done; `/slow` waits until it is let go.
    struct Fixture {
        dir: tempfile::TempDir,
        clock: Arc<ManualClock>,
        done: watch::Sender<u32>,
        go: watch::Sender<bool>,
        app: Router,
    }

    impl Fixture {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new(Timestamp::from_unix_micros(1_000_000)));
            let (done, go) = (watch::Sender::new(0), watch::Sender::new(false));
            let mut fixture = Self { dir, clock, done, go, app: Router::new() };
            fixture.restart().await;
            fixture
        }

        /// As another door would begin.
        async fn restart(&mut self) {
            let requests = Requests::open(self.dir.path(), self.clock.clone()).await.unwrap();
            let count = {
                let done = self.done.clone();
                move || {
                    done.send_modify(|done| *done += 1);
                    json!({ "number": *done.borrow() })
                }
            };
            let (quick, slow, large, go) = (count.clone(), count.clone(), count.clone(), self.go.subscribe());
            let gone =
                || async { Problem::new(ErrorCode::NotFound, "There is nothing here.").into_response() };
            self.app = Router::new()
                .route(
                    "/quick",
                    post(move || {
                        let answer = (StatusCode::CREATED, [(header::ETAG, "\"tag\"")], Json(quick()));
                        std::future::ready(answer)
                    })
                    .delete(gone),
                )
                .route(
                    "/slow",
                    post(move || {
                        let (number, mut go) = (slow(), go.clone());
                        async move {
                            go.wait_for(|go| *go).await.unwrap();
                            Json(number)
                        }
                    }),
                )
                .route("/large", post(move || std::future::ready(large().to_string().repeat(100_000))))
                .route("/raw", put(move || std::future::ready(Json(count()))))
                .layer(from_fn_with_state(requests, remember))
                .layer(from_fn(problem::render));
        }

        fn request(&self, method: &str, path: &str, name: &str, caller: &str, body: &'static str) -> Request {
            Request::builder()
                .method(method)
                .uri(path)
                .header(IDEMPOTENCY_KEY, name)
                .header(CALLER, caller)
                .body(Body::from(body))
                .unwrap()
        }

        async fn send(&self, request: Request) -> (u16, bool, Value) {
            let response = self.app.clone().oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let is_replay = head.headers.contains_key(IDEMPOTENT_REPLAYED);
            assert!(!is_replay || head.headers[header::ETAG] == "\"tag\"");
            (head.status.as_u16(), is_replay, serde_json::from_slice(&body).unwrap_or_default())
        }

        async fn post(&self, path: &str, name: &str, body: &'static str) -> (u16, bool, Value) {
            self.send(self.request("POST", path, name, "key_a", body)).await
        }

        fn done(&self) -> u32 {
            *self.done.borrow()
        }
    }

    #[tokio::test]
    async fn a_repeated_request_is_answered_and_not_done_again() {
        let mut f = Fixture::new().await;
        assert_eq!(f.post("/quick", "a", "x").await, (201, false, json!({ "number": 1 })));
        for is_other_door in [false, true] {
            if is_other_door {
                f.restart().await;
            }
            assert_eq!(f.post("/quick", "a", "x").await, (201, true, json!({ "number": 1 })));
        }
        for (path, body) in [("/quick", "y"), ("/quick?z=1", "x"), ("/large", "x")] {
            let (status, _, body) = f.post(path, "a", body).await;
            assert_eq!((status, &body["error"]["code"]), (422, &"INVALID_REQUEST".into()), "{path}");
        }
        let theirs = f.request("POST", "/quick", "a", "key_b", "other");
        assert_eq!(f.send(theirs).await, (201, false, json!({ "number": 2 })));
        f.clock.advance(KEPT_FOR + Duration::from_secs(1));
        assert_eq!(f.post("/quick", "a", "y").await, (201, false, json!({ "number": 3 })));
        let (status, _, body) = f.post("/quick", &"n".repeat(256), "x").await;
        assert_eq!((status, &body["error"]["code"]), (422, &"INVALID_REQUEST".into()));
    }

    #[tokio::test]
    async fn of_two_at_once_one_is_done() {
        let f = Fixture::new().await;
        let first = tokio::spawn(f.app.clone().oneshot(f.request("POST", "/slow", "a", "key_a", "x")));
        f.done.subscribe().wait_for(|done| *done == 1).await.unwrap();
        let response = f.app.clone().oneshot(f.request("POST", "/slow", "a", "key_a", "x")).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (409, &"2".parse().unwrap())
        );
        assert_eq!(f.post("/slow", "a", "y").await.0, 422);
        f.go.send_replace(true);
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert_eq!(f.done(), 1);
    }

    #[tokio::test]
    async fn a_client_that_leaves_finds_its_answer_and_a_crash_frees_the_name() {
        let mut f = Fixture::new().await;
        let leaving = tokio::spawn(f.app.clone().oneshot(f.request("POST", "/slow", "a", "key_a", "x")));
        f.done.subscribe().wait_for(|done| *done == 1).await.unwrap();
        leaving.abort();
        assert!(leaving.await.is_err());
        // What ran in another door has ended with it.
        let gone = std::mem::take(&mut f.app);
        f.restart().await;
        f.go.send_replace(true);
        let (status, is_replay, body) = f.post("/slow", "a", "x").await;
        assert_eq!((status, is_replay), (200, false), "{body}");
        drop(gone);

        f.go.send_replace(false);
        let leaving = tokio::spawn(f.app.clone().oneshot(f.request("POST", "/quick", "b", "key_a", "x")));
        let mut done = f.done.subscribe();
        done.wait_for(|done| *done == 3).await.unwrap();
        leaving.abort();
        let _ = leaving.await;
        let replayed = async {
            loop {
                match f.post("/quick", "b", "x").await {
                    (409, ..) => tokio::task::yield_now().await,
                    answer => return answer,
                }
            }
        };
        assert_eq!(replayed.await, (201, true, json!({ "number": 3 })));
    }

    #[tokio::test]
    async fn what_is_not_kept() {
        let f = Fixture::new().await;
        // An error frees the name.
        let delete = || f.request("DELETE", "/quick", "a", "key_a", "");
        for _ in 0..2 {
            assert_eq!(f.send(delete()).await.0, 404);
        }
        assert_eq!(f.post("/quick", "a", "x").await.0, 201);
        // A large answer is not, but that it was given.
        assert_eq!(f.post("/large", "b", "x").await.0, 200);
        let (status, _, body) = f.post("/large", "b", "x").await;
        assert_eq!((status, &body["error"]["details"]["reason"]), (409, &"answer_not_kept".into()));
        assert_eq!(f.done(), 2);
        // Raw bodies and streams are done each time.
        for _ in 0..2 {
            assert_eq!(f.send(f.request("PUT", "/raw", "c", "key_a", "x")).await.0, 200);
            let mut streamed = f.request("POST", "/quick", "d", "key_a", "x");
            streamed.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            assert_eq!(f.send(streamed).await.0, 201);
        }
        assert_eq!(f.done(), 6);
    }

    #[tokio::test]
    async fn the_oldest_answers_go() {
        let f = Fixture::new().await;
        for number in 0..=ANSWERS {
            assert_eq!(f.post("/quick", &number.to_string(), "x").await.0, 201);
        }
        assert!(!f.post("/quick", "0", "x").await.1);
        assert!(f.post("/quick", "2", "x").await.1);
    }
}
