//! Commands and terminals: `/terminal/…`.
//!
//! hands starts the process and gives the door the master of its PTY, or takes the door's pipes; every byte is then moved
//! here. [`exec`] runs one command, [`session`] is a terminal that outlives its sockets, [`socket`] one WebSocket that
//! shows it.

mod exec;
mod ring;
mod session;
mod socket;
mod spawn;
mod text;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    middleware,
    routing::{delete, get, post},
};
use http::StatusCode;
use nix::sys::signal::Signal;
use reef_door::{
    ErrorCode,
    terminal::{MAX_TERMINALS, TerminalSession},
};
use reef_model::{Clock, TerminalId};
use serde_json::json;
use tokio::sync::Semaphore;

use self::session::Session;
use super::{
    problem::{self, Problem},
    sockets::Sockets,
    work::Work,
};
use crate::wire::work::End;

/// Commands that may run at a time.
const MAX_COMMANDS: usize = 64;
/// A command line and what it reads, as JSON.
const BODY_LIMIT: usize = 8 << 20;
/// How long a terminal that ended can still be looked at.
const LINGER: Duration = Duration::from_secs(60);
/// Ended terminals that are kept at most.
const MAX_ENDED: usize = 16;
/// How long `DELETE` waits for the end.
const DELETE_LIMIT: Duration = Duration::from_secs(5);

/// All terminals and commands of the instance.
pub(crate) struct Terminals {
    work: Work,
    sockets: Sockets,
    clock: Arc<dyn Clock>,
    /// After this without viewers, input and output a terminal is ended.
    idle_limit: Duration,
    sessions: Mutex<BTreeMap<TerminalId, Arc<Session>>>,
    terminals: Arc<Semaphore>,
    commands: Arc<Semaphore>,
}

impl Terminals {
    /// Makes an empty set.
    pub(crate) fn new(
        work: Work,
        sockets: Sockets,
        clock: Arc<dyn Clock>,
        idle_limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            work,
            sockets,
            clock,
            idle_limit,
            sessions: Mutex::default(),
            terminals: Arc::new(Semaphore::new(MAX_TERMINALS)),
            commands: Arc::new(Semaphore::new(MAX_COMMANDS)),
        })
    }

    /// Returns `/terminal…` without authentication.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/terminal/exec", post(exec::exec).layer(DefaultBodyLimit::max(BODY_LIMIT)))
            .route("/terminal/ws", get(socket::open))
            .route("/terminal/sessions", get(list))
            .route("/terminal/sessions/{tid}", delete(end))
            .layer(middleware::from_fn(problem::render))
            .with_state(self)
    }

    fn find(&self, id: &str) -> Result<Arc<Session>, Problem> {
        let id: Option<TerminalId> = id.parse().ok();
        id.and_then(|id| self.lock().get(&id).cloned()).ok_or_else(|| {
            Problem::new(
                ErrorCode::NotFound,
                "There is no such terminal: it may have ended. List them at …/terminal/sessions, or open another \
                 without session=.",
            )
        })
    }

    /// Adds a terminal that runs, and forgets the oldest of those that ended if there are too many.
    fn add(&self, session: Arc<Session>) {
        let mut sessions = self.lock();
        let ended: Vec<_> =
            sessions.iter().filter(|(_, session)| session.end().is_some()).map(|(id, _)| *id).collect();
        for id in ended.iter().take((ended.len() + 1).saturating_sub(MAX_ENDED)) {
            sessions.remove(id);
        }
        sessions.insert(session.id, session);
    }

    fn remove(&self, id: TerminalId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TerminalId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists the terminals, oldest first.
async fn list(State(terminals): State<Arc<Terminals>>) -> Json<Vec<TerminalSession>> {
    Json(terminals.lock().values().map(|session| session.describe()).collect())
}

/// Ends a terminal with everything that was started in it.
async fn end(
    State(terminals): State<Arc<Terminals>>,
    Path(tid): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = terminals.find(&tid)?;
    session.kill();
    if tokio::time::timeout(DELETE_LIMIT, session.ended()).await.is_err() {
        return Err(Problem::new(
            ErrorCode::UpstreamTimeout,
            "The terminal's processes are still ending. Look again in a moment.",
        ));
    }
    terminals.remove(session.id);
    Ok(StatusCode::NO_CONTENT)
}

/// The answer to one terminal or command too many.
fn too_many(what: &str, limit: usize) -> Problem {
    Problem::new(
        ErrorCode::QuotaExceeded,
        format!("This instance has {limit} {what}, which is the most it may: end some first."),
    )
    .with(json!({ "limit": limit }))
}

/// How a process ended, as clients are told: status and signal.
fn told(end: Option<End>) -> (Option<i32>, Option<String>) {
    match end {
        Some(End { signal: Some(number), .. }) => {
            let name =
                Signal::try_from(number).map_or_else(|_| format!("SIG{number}"), |name| name.to_string());
            (None, Some(name))
        }
        Some(end) => (end.code, None),
        // It went down with hands, which the kernel does by this.
        None => (None, Some(Signal::SIGKILL.to_string())),
    }
}
