//! Reading along: `…/chat/events` and `…/chat/messages`.
//!
//! A follower reads the log, then what is committed live. One that is too slow for the live events is sent back to the
//! log: it misses nothing, and nobody waits for it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_stream::stream;
use axum::{
    Json,
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reef_door::headers::LAST_EVENT_ID;
use reef_model::{ChatSessionId, MessageId, TurnId};
use tokio::sync::broadcast::error::RecvError;

use super::problem::{Params, Problem};
use crate::door::chat::{
    Chat,
    log::{Entry, Live, LogError, Window},
};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events read from the log at once.
const PAGE: u32 = 200;

/// What a follower wants to see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    pub(super) session: ChatSessionId,
    /// Only events with a greater id.
    pub(super) after: u64,
    /// Also deltas, tools and starts.
    pub(super) with_deltas: bool,
    /// Only this turn, until its end.
    pub(super) turn: Option<TurnId>,
}

/// Why a stream of events ends before its time.
#[derive(Debug)]
pub(super) enum Broken {
    /// The log cannot be read.
    Log(LogError),
    /// The turn's next event cannot be written.
    Stuck,
}

/// Yields events in the order of their ids, each once; with a turn, until its terminal event.
pub(super) fn follow(chat: Arc<Chat>, filter: Filter) -> impl Stream<Item = Result<Arc<Entry>, Broken>> {
    let Filter { session, with_deltas, turn, after } = filter;
    // Subscribed before the log is read, so that nothing falls between the two.
    let mut live = chat.log.follow(session);
    stream! {
        let mut last = after;
        loop {
            loop {
                let page = match chat.log.events_after(session, last, with_deltas, PAGE).await {
                    Ok(page) => page,
                    Err(error) => {
                        yield Err(Broken::Log(error));
                        return;
                    }
                };
                let is_last_page = !page.is_cut;
                for entry in page.rows {
                    last = entry.id;
                    if turn.is_none_or(|turn| turn == entry.turn_id) {
                        let is_end = turn.is_some() && entry.is_terminal;
                        yield Ok(Arc::new(entry));
                        if is_end {
                            return;
                        }
                    }
                }
                if is_last_page {
                    break;
                }
            }
            loop {
                match live.recv().await {
                    Ok(Live::Event(entry)) => {
                        if entry.id <= last || !(with_deltas || entry.is_kept) {
                            continue;
                        }
                        last = entry.id;
                        if turn.is_none_or(|turn| turn == entry.turn_id) {
                            let is_end = turn.is_some() && entry.is_terminal;
                            yield Ok(entry);
                            if is_end {
                                return;
                            }
                        }
                    }
                    Ok(Live::Stuck(stuck)) if turn == Some(stuck) => {
                        yield Err(Broken::Stuck);
                        return;
                    }
                    Ok(Live::Stuck(_)) => {}
                    Ok(Live::Unheld) | Err(RecvError::Lagged(_)) => break,
                    // The session was deleted.
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }
}

/// Answers with a stream of server-sent events (WHATWG HTML §9.2).
pub(super) fn sse(events: impl Stream<Item = Result<Arc<Entry>, Broken>> + Send + 'static) -> Response {
    let events = events.scan((), |(), event| {
        std::future::ready(match event {
            Ok(entry) => {
                let event = Event::default().id(entry.id.to_string()).event(&entry.name).data(&entry.data);
                Some(Ok::<_, Infallible>(event))
            }
            // The stream ends without a terminal event; whoever comes again with the last id continues.
            Err(broken) => {
                tracing::error!(?broken, "a stream of chat events ends early");
                None
            }
        })
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Streams a session's events after an id.
pub(super) async fn events(
    State(chat): State<Arc<Chat>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let session = session_of(&chat, &params).await?.ok_or_else(Problem::no_session)?;
    let with_deltas = params.switch("deltas")?;
    let after = match last_event_id(&headers)? {
        Some(id) => id,
        None => params.get("after", "an event id")?.unwrap_or(0),
    };
    Ok(sse(follow(chat, Filter { session, after, with_deltas, turn: None })))
}

/// Lists a session's messages, oldest first.
pub(super) async fn messages(State(chat): State<Arc<Chat>>, params: Params) -> Result<Response, Problem> {
    let limit = params.limit()?;
    let is_tail = params.switch("tail")?;
    let after = bound(&chat, &params, "after").await?;
    let before = bound(&chat, &params, "before").await?;
    let Some(session) = session_of(&chat, &params).await? else {
        return Ok(Json(serde_json::json!([])).into_response());
    };
    let window = Window {
        after: after.unwrap_or(0),
        before: before.unwrap_or(u64::MAX),
        // What comes before something is what is nearest to it.
        is_tail: is_tail || (before.is_some() && after.is_none()),
        limit,
    };
    let page = chat.log.messages(session, window).await?;
    let edge = if window.is_tail { page.rows.first() } else { page.rows.last() };
    let next = edge.filter(|_| page.is_cut).map(|message| message.event_id);
    let mut response = Json(page.rows).into_response();
    if let Some(next) = next {
        let bounds = match (window.is_tail, after, before) {
            (true, Some(after), _) => format!("tail=true&after={after}&before={next}"),
            (true, None, _) => format!("before={next}"),
            (false, _, Some(before)) => format!("after={next}&before={before}"),
            (false, _, None) => format!("after={next}"),
        };
        let link = format!("<?session_id={session}&{bounds}&limit={limit}>");
        mark_next(&mut response, &next.to_string(), &link);
    }
    Ok(response)
}

/// Says where the next page is.
pub(super) fn mark_next(response: &mut Response, cursor: &str, link: &str) {
    let link = format!("{link}; rel=\"next\"");
    for (name, value) in [(header::LINK, link.as_str()), (HeaderName::from_static("x-next-cursor"), cursor)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Returns the session that a request names, else the one used last.
async fn session_of(chat: &Chat, params: &Params) -> Result<Option<ChatSessionId>, Problem> {
    let Some(name) = params.get::<String>("session_id", "a session id")? else {
        return Ok(chat.log.newest_session().await?);
    };
    let id = name.parse().map_err(|_| Problem::no_session())?;
    Ok(Some(chat.log.session(id).await?.ok_or_else(Problem::no_session)?.id))
}

/// Returns the event id that a parameter means: itself, or that of a message.
async fn bound(chat: &Chat, params: &Params, name: &str) -> Result<Option<u64>, Problem> {
    let wanted = "an event id or a message id";
    let text: Option<String> = params.get(name, wanted)?;
    match text.as_deref().map(str::parse::<MessageId>) {
        Some(Ok(message)) => {
            let event = chat.log.event_of_message(message).await?;
            event.map(Some).ok_or_else(|| Problem::field(name, "there is no such message"))
        }
        _ => params.get(name, wanted),
    }
}

/// Returns the id after which a reconnecting client wants to go on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| Problem::field("Last-Event-ID", "must be the id of an event"))
}
