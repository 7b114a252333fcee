//! `…/chat`, `…/chat/stream` and `…/chat/turns`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::Engine as _;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue};
use reef_door::{
    ErrorCode,
    chat::{ChatRequest, OnDisconnect, Turn, TurnStatus},
};
use reef_model::{ChatSessionId, TurnId};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    follow::{Broken, Filter, follow, last_event_id, sse},
    problem::{Body, Problem},
};
use crate::door::{
    chat::{
        Chat,
        log::{Accepted, Entry, Fingerprint, NewTurn, StoredRequest},
    },
    named::{Name, mark_replayed},
};

const MESSAGE_BYTES: usize = 1024 * 1024;
const ATTACHMENTS: usize = 16;
const ATTACHMENT_BYTES: usize = 15 * 1024 * 1024;
const DEFAULT_WAIT_SECONDS: u32 = 600;

/// Runs a turn and answers with it when it has ended.
pub(super) async fn chat(
    State(chat): State<Arc<Chat>>,
    headers: HeaderMap,
    body: Body<ChatRequest>,
) -> Result<Response, Problem> {
    let wait = Duration::from_secs(body.value.timeout_seconds.unwrap_or(DEFAULT_WAIT_SECONDS).into());
    let taken = take(&chat, &headers, body).await?;
    let mut guard = taken.guard();
    let mut events = Box::pin(taken.events(0));
    let ended = tokio::time::timeout(wait, async {
        while let Some(event) = events.next().await {
            if event.map_err(Problem::from)?.is_terminal {
                return Ok(true);
            }
        }
        Ok::<_, Problem>(false)
    })
    .await;
    guard.disarm();
    let turn = chat.log.turn(taken.turn).await?;
    let response = match (ended, turn) {
        (Ok(Err(problem)), _) => return Err(problem),
        (_, None) => return Err(Problem::no_session()),
        (_, Some(turn)) if turn.status == TurnStatus::Completed => Json(turn).into_response(),
        (_, Some(turn)) => failure(turn).into_response(),
    };
    Ok(taken.mark(response))
}

/// Runs a turn and streams its events.
pub(super) async fn stream(
    State(chat): State<Arc<Chat>>,
    headers: HeaderMap,
    body: Body<ChatRequest>,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?.unwrap_or(0);
    let taken = take(&chat, &headers, body).await?;
    let mut guard = taken.guard();
    let events = taken.events(after).inspect(move |event| {
        if event.as_ref().is_ok_and(|entry| entry.is_terminal) {
            guard.disarm();
        }
    });
    let response = sse(events);
    Ok(taken.mark(response))
}

/// Returns a turn.
pub(super) async fn get(State(chat): State<Arc<Chat>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::no_turn())?;
    Ok(Json(chat.log.turn(id).await?.ok_or_else(Problem::no_turn)?).into_response())
}

/// Asks for a turn's end and returns the turn, which may still run for a moment.
pub(super) async fn cancel(
    State(chat): State<Arc<Chat>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id: TurnId = id.parse().map_err(|_| Problem::no_turn())?;
    if !chat.cancel(id).await? {
        return Err(Problem::no_turn());
    }
    Ok(Json(chat.log.turn(id).await?.ok_or_else(Problem::no_turn)?).into_response())
}

/// A turn that a request started, or that an earlier one with the same key did.
struct Taken {
    chat: Arc<Chat>,
    turn: TurnId,
    session: ChatSessionId,
    is_replay: bool,
    cancels: bool,
}

impl Taken {
    /// Yields the turn's events after an id.
    fn events(&self, after: u64) -> impl Stream<Item = Result<Arc<Entry>, Broken>> + Send + 'static {
        let filter = Filter { session: self.session, after, with_deltas: true, turn: Some(self.turn) };
        follow(Arc::clone(&self.chat), filter)
    }

    /// Returns what cancels the turn when the client goes away before its end, if that is wanted.
    fn guard(&self) -> CancelOnDrop {
        CancelOnDrop { chat: Arc::clone(&self.chat), turn: self.cancels.then_some(self.turn) }
    }

    fn mark(&self, mut response: Response) -> Response {
        if self.is_replay {
            mark_replayed(&mut response);
        }
        response
    }
}

struct CancelOnDrop {
    chat: Arc<Chat>,
    turn: Option<TurnId>,
}

impl CancelOnDrop {
    fn disarm(&mut self) {
        self.turn = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let chat = Arc::clone(&self.chat);
            tokio::spawn(async move {
                if let Err(error) = chat.cancel(turn).await {
                    tracing::error!(%error, %turn, "cannot cancel the turn of a client that went away");
                }
            });
        }
    }
}

/// Checks a request and takes it into the log.
async fn take(chat: &Arc<Chat>, headers: &HeaderMap, body: Body<ChatRequest>) -> Result<Taken, Problem> {
    if chat.draining.is_cancelled() {
        return Err(Problem::new(
            ErrorCode::InstanceNotReady,
            "The instance is stopping. Start it and try again.",
        )
        .with(json!({ "status": "stopping" })));
    }
    check(&body.value)?;
    let fingerprint = fingerprint(headers, "chat", &body.bytes)?;
    let ChatRequest { message, session_id, attachments, on_disconnect, timeout_seconds: _ } = body.value;
    let new = NewTurn { session: session_id, request: StoredRequest { message, attachments }, fingerprint };
    let (turn, session, is_replay) = match chat.accept(new).await? {
        Accepted::New(turn) => (turn.id, turn.session_id, false),
        Accepted::Replayed(id) => {
            let turn = chat.log.turn(TurnId::from_uuid(id)).await?.ok_or_else(Problem::no_turn)?;
            (turn.turn_id, turn.session_id, true)
        }
    };
    let cancels = on_disconnect == OnDisconnect::Cancel;
    Ok(Taken { chat: Arc::clone(chat), turn, session, is_replay, cancels })
}

fn check(request: &ChatRequest) -> Result<(), Problem> {
    if request.message.len() > MESSAGE_BYTES {
        return Err(Problem::field("message", "must be at most 1 MiB"));
    }
    if request.message.trim().is_empty() && request.attachments.is_empty() {
        return Err(Problem::field("message", "must not be empty"));
    }
    if request.timeout_seconds.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
        return Err(Problem::field("timeout_seconds", "must be 1 to 3600"));
    }
    if request.attachments.len() > ATTACHMENTS {
        return Err(Problem::field("attachments", "must be at most 16"));
    }
    let mut decoded_bytes = 0;
    for (at, file) in request.attachments.iter().enumerate() {
        if file.name.is_empty() || file.name.len() > 255 || file.name.contains(['/', '\0']) {
            return Err(Problem::field(
                &format!("attachments[{at}].name"),
                "must be 1 to 255 bytes without /",
            ));
        }
        if file.mime_type.parse::<HeaderValue>().is_err() || !file.mime_type.contains('/') {
            return Err(Problem::field(&format!("attachments[{at}].mime_type"), "must be a media type"));
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&file.content)
            .map_err(|_| Problem::field(&format!("attachments[{at}].content"), "must be base64"))?;
        decoded_bytes += decoded.len();
    }
    if decoded_bytes > ATTACHMENT_BYTES {
        return Err(Problem::new(
            ErrorCode::PayloadTooLarge,
            "The attachments are together larger than 15 MiB.",
        ));
    }
    Ok(())
}

/// Returns the request's `Idempotency-Key`, bound to the caller, the route and the body.
pub(super) fn fingerprint(
    headers: &HeaderMap,
    route: &str,
    body: &Bytes,
) -> Result<Option<Fingerprint>, Problem> {
    let Some(name) = Name::of(headers)? else { return Ok(None) };
    let body = Sha256::new().chain_update(route).chain_update([0]).chain_update(body).finalize().into();
    Ok(Some(Fingerprint { name, body }))
}

/// Returns what `POST …/chat` says of a turn that has no whole answer; the turn itself is in the details.
fn failure(turn: Turn) -> Problem {
    let message = turn.error.as_ref().map(|error| error.message.clone());
    let (code, message) = match turn.status {
        TurnStatus::Cancelled => (ErrorCode::Conflict, "The turn was cancelled.".to_owned()),
        TurnStatus::Failed | TurnStatus::Interrupted => {
            (ErrorCode::UpstreamError, message.unwrap_or_else(|| "The turn did not complete.".to_owned()))
        }
        TurnStatus::Queued | TurnStatus::Running | TurnStatus::Completed => (
            ErrorCode::UpstreamTimeout,
            "The turn goes on. Follow it at …/chat/events?after= or ask for …/chat/turns/{turn_id}."
                .to_owned(),
        ),
    };
    Problem::new(code, message).with(serde_json::to_value(turn).unwrap_or_default())
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Log(error) => error.into(),
            Broken::Stuck => Self::stuck(),
        }
    }
}
