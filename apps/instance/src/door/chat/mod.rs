//! Chat: the log, the engine that drives the gateway, and the routes.
//!
//! A request becomes a turn in [`log`] before anything else happens. One worker per session ([`runner`]) runs its turns
//! one after the other over the door's single connection to the gateway ([`link`]); what the gateway says goes through
//! [`progress`] into the log, and from the log to whoever follows ([`routes`]). After a lost connection, a killed gateway
//! or a killed door, [`verdict`] reads from the gateway's transcript what became of a turn.

mod foreign;
mod inbox;
mod link;
mod log;
mod progress;
mod routes;
mod runner;
mod verdict;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use reef_door::ending;
use reef_model::{ChatSessionId, Clock, TurnId};
use reef_openclaw::{ByteStream, Client, protocol::SignalKind};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use log::Activity;

use foreign::Foreign;
use inbox::Inbox;
use log::{
    AcceptError, Accepted, CancelRequest, Fingerprint, KEEP, KEEP_LESS, Log, LogError, NewTurn, OpenTurn,
};

/// What the warm-up turn says; the model relay answers requests with this text by itself.
pub(crate) const WARM_UP_MESSAGE: &str = "reef-warm-up: answer with the single word ready";
const WARM_UP_SESSION: &str = "agent:main:reef-warmup";
/// How long the deletion of a session waits for the end of its running turn.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to the gateway.
pub(crate) trait GatewayAccess: Send + Sync + 'static {
    /// Opens a byte stream to its port.
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>>;
    /// Returns its token.
    fn token(&self) -> &str;
    /// Tells whether its process takes requests.
    fn ready(&self) -> watch::Receiver<bool>;
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Without a connection for this long, a turn ends.
    reconnect: Duration,
    /// How long a turn without run and answer may stay so, after which it is lost.
    resume: Duration,
    /// A turn that hears nothing for this long looks into the transcript.
    quiet: Duration,
    /// How often an unclear turn looks into the transcript.
    poll: Duration,
    /// How often a turn may be recovered.
    recoveries: u32,
    /// Bytes of the log at which no more turns are taken.
    log_bytes: u64,
}

const LIMITS: Limits = Limits {
    reconnect: Duration::from_secs(180),
    resume: Duration::from_secs(20),
    quiet: Duration::from_secs(60),
    poll: Duration::from_secs(1),
    recoveries: 5,
    // Years of ordinary chat; small beside what the gateway itself keeps.
    log_bytes: 1 << 30,
};

/// How often the log is tidied up, and the pause between two steps of that.
const TIDY_PERIOD: Duration = Duration::from_secs(600);
const TIDY_PAUSE: Duration = Duration::from_millis(50);

/// The chats of this instance.
pub(crate) struct Chat {
    log: Log,
    gateway: Arc<dyn GatewayAccess>,
    link: watch::Sender<Option<Client>>,
    workers: Mutex<HashMap<ChatSessionId, Arc<Worker>>>,
    /// Bytes in the inboxes of all workers.
    held: Arc<AtomicUsize>,
    foreign: Foreign,
    tasks: TaskTracker,
    /// No new turns: the door is going down.
    draining: CancellationToken,
    /// Running turns end now.
    stopping: CancellationToken,
    limits: Limits,
}

/// What a session's worker is told.
struct Worker {
    /// The gateway's name of the session.
    key: String,
    inbox: Inbox,
    cancel: Notify,
}

impl Chat {
    /// Opens the log in the door's private directory.
    ///
    /// # Errors
    /// When the log cannot be opened or made.
    pub(crate) async fn open(
        state_dir: &Path,
        clock: Arc<dyn Clock>,
        gateway: Arc<dyn GatewayAccess>,
    ) -> anyhow::Result<Arc<Self>> {
        Self::open_with(state_dir, clock, gateway, LIMITS).await
    }

    async fn open_with(
        state_dir: &Path,
        clock: Arc<dyn Clock>,
        gateway: Arc<dyn GatewayAccess>,
        limits: Limits,
    ) -> anyhow::Result<Arc<Self>> {
        let path = state_dir.join("chat.db");
        let log = Log::open(&path, clock, limits.log_bytes)
            .await
            .with_context(|| format!("cannot open the chat log {}", path.display()))?;
        Ok(Arc::new(Self {
            log,
            gateway,
            link: watch::Sender::new(None),
            workers: Mutex::default(),
            held: Arc::default(),
            foreign: Foreign::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            limits,
        }))
    }

    /// Returns the routes `/chat…`; authentication is the caller's.
    pub(crate) fn router(self: Arc<Self>) -> axum::Router {
        routes::router(self)
    }

    /// Takes up what an earlier door left, and keeps the connection to the gateway until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        match self.log.busy_sessions().await {
            Ok(sessions) => {
                for (session, key) in sessions {
                    self.wake(session, key);
                }
            }
            Err(error) => tracing::error!(%error, "cannot read what an earlier door left in the chat log"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = link::keep(&self) => {}
            () = self.tidy() => {}
        }
    }

    /// Removes from the log what nobody needs any more, for ever.
    async fn tidy(&self) {
        loop {
            tokio::time::sleep(TIDY_PERIOD).await;
            if let Err(error) = self.tidy_once().await {
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "cannot tidy up the chat log"
                );
            }
        }
    }

    async fn tidy_once(&self) -> Result<(), LogError> {
        let keep = if self.log.is_half_full().await? { KEEP_LESS } else { KEEP };
        while self.log.prune(keep).await? {
            tokio::time::sleep(TIDY_PAUSE).await;
        }
        while self.log.shrink().await? {
            tokio::time::sleep(TIDY_PAUSE).await;
        }
        Ok(())
    }

    /// Takes no more turns, waits for those that run until `deadline`, then ends the rest as interrupted.
    pub(crate) async fn drain(&self, deadline: tokio::time::Instant) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            self.stopping.cancel();
            let _ = tokio::time::timeout(ending::BREAK_OFF, self.tasks.wait()).await;
        }
    }

    /// Follows how much is going on.
    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.log.activity()
    }

    /// Runs a throw-away turn on a connection of its own, so that the gateway has loaded what its first turn needs.
    ///
    /// # Errors
    /// When the gateway cannot be reached or the turn does not end in a minute.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        tokio::time::timeout(WARM_UP_TIMEOUT, self.warm_up_turn())
            .await
            .context("the warm-up took too long")?
    }

    async fn warm_up_turn(&self) -> anyhow::Result<()> {
        let (client, mut events) = link::connect(&*self.gateway).await?;
        let run = TurnId::generate().to_string();
        let message = reef_openclaw::protocol::ChatSend {
            session_key: WARM_UP_SESSION,
            message: WARM_UP_MESSAGE,
            idempotency_key: &run,
            attachments: &[],
        };
        client.chat_send(&message).await?;
        while let Some(signal) = events.next().await {
            if signal.run_id != run {
                continue;
            }
            match signal.kind {
                SignalKind::Final(_) | SignalKind::Aborted { .. } => break,
                SignalKind::Error(message) => anyhow::bail!("the warm-up turn failed: {message}"),
                SignalKind::Status
                | SignalKind::Delta(_)
                | SignalKind::ToolStarted { .. }
                | SignalKind::ToolCompleted { .. }
                | SignalKind::Row(_) => {}
            }
        }
        client.session_delete(WARM_UP_SESSION).await?;
        Ok(())
    }

    /// Does something to its end, even where its client goes away: the log, and what the engine knows of it, change
    /// together.
    async fn whole<T, F>(self: &Arc<Self>, change: impl FnOnce(Arc<Self>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let changing = tokio::spawn(change(Arc::clone(self)));
        changing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Takes a turn into the log and sees that it is run.
    async fn accept(self: &Arc<Self>, new: NewTurn) -> Result<Accepted<OpenTurn>, AcceptError> {
        self.whole(async move |chat| {
            let accepted = chat.log.accept(new).await?;
            if let Accepted::New(turn) = &accepted {
                chat.wake(turn.session_id, turn.key.clone());
            }
            Ok(accepted)
        })
        .await
    }

    /// Asks for a turn's end; `false` when there is no such turn.
    async fn cancel(self: &Arc<Self>, turn: TurnId) -> Result<bool, LogError> {
        self.whole(async move |chat| {
            Ok(match chat.log.request_cancel(turn).await? {
                None => false,
                Some(CancelRequest::Ended) => true,
                Some(CancelRequest::Running(session)) => {
                    if let Some(worker) = chat.worker(session) {
                        worker.cancel.notify_one();
                    }
                    true
                }
            })
        })
        .await
    }

    /// Makes a session.
    async fn create_session(
        self: &Arc<Self>,
        title: String,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Accepted<ChatSessionId>, AcceptError> {
        self.whole(async move |chat| chat.log.create_session(&title, fingerprint.as_ref()).await).await
    }

    /// Names a session; `false` when there is none.
    async fn rename_session(
        self: &Arc<Self>,
        session: ChatSessionId,
        title: String,
    ) -> Result<bool, LogError> {
        self.whole(async move |chat| chat.log.rename_session(session, &title).await).await
    }

    /// Deletes a session here and in the gateway, where it may have to wait for the next connection.
    async fn delete_session(self: &Arc<Self>, session: ChatSessionId) -> Result<bool, LogError> {
        self.whole(async move |chat| {
            chat.end_turns(session).await?;
            let is_deleted = chat.log.delete_session(session).await?;
            if is_deleted {
                tokio::spawn(async move { link::forget_deleted(&chat).await });
            }
            Ok(is_deleted)
        })
        .await
    }

    /// Cancels the turns of a session, and waits a moment for the end of the one that runs.
    async fn end_turns(self: &Arc<Self>, session: ChatSessionId) -> Result<(), LogError> {
        while let Some(turn) = self.log.next_turn(session).await? {
            self.cancel(turn.id).await?;
            let mut activity = self.log.activity();
            let ended = async {
                while self.log.next_turn(session).await?.is_some_and(|next| next.id == turn.id) {
                    if activity.changed().await.is_err() {
                        break;
                    }
                }
                Ok::<_, LogError>(())
            };
            if tokio::time::timeout(DELETE_TIMEOUT, ended).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn worker(&self, session: ChatSessionId) -> Option<Arc<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    fn worker_of_key(&self, key: &str) -> Option<Arc<Worker>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        match session_of_key(key) {
            Some(session) => workers.get(&session).cloned(),
            None => workers.values().find(|worker| worker.key == key).cloned(),
        }
    }

    /// Sees that the turns of a session, which the gateway knows by this name, are run.
    fn wake(self: &Arc<Self>, session: ChatSessionId, key: String) -> Arc<Worker> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = workers.get(&session) {
            worker.inbox.poke();
            return Arc::clone(worker);
        }
        let inbox = Inbox::new(Arc::clone(&self.held));
        let worker = Arc::new(Worker { key, inbox, cancel: Notify::new() });
        workers.insert(session, Arc::clone(&worker));
        drop(workers);
        let (chat, working) = (Arc::clone(self), Arc::clone(&worker));
        self.tasks.spawn(async move { runner::work(&chat, session, &working).await });
        worker
    }
}

/// Returns the gateway's name of a session; the gateway lower-cases names, and so are ours.
fn session_key(session: ChatSessionId) -> String {
    format!("agent:main:{session}")
}

/// Returns the session that the gateway knows under this name, if it is one of ours.
fn session_of_key(key: &str) -> Option<ChatSessionId> {
    key.strip_prefix("agent:main:")?.parse().ok()
}
