//! The door: the only listener of an instance.
//!
//! Listens on `out/door.sock`, wants the door's token on every request, serves chat ([`chat`]) and its own status
//! ([`http`]), relays model calls ([`model`]) and the way out ([`egress`]), and keeps hands and the gateway running
//! ([`supervisor`]). What the tenant's side must do for a route (open a file, start a shell) it is asked for over [`work`];
//! the door moves the bytes.

mod activity;
mod address;
mod backoff;
pub(crate) mod chat;
mod desktop;
mod egress;
mod files;
mod gateway;
mod held;
mod http;
mod listener;
mod log;
mod logs;
pub(crate) mod model;
mod named;
mod prepare;
pub(crate) mod problem;
mod sockets;
mod status;
mod supervisor;
mod terminal;
pub(crate) mod work;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::middleware::{from_fn, from_fn_with_state};
use reef_door::{Boot, CloseReason, DoorPhase, RunDir, ending};
use reef_model::{Clock, Isolation, SystemClock};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    isolation::{HandsUser, Layout},
    process,
};

/// `reef-instance door`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with `in/boot.json`, `in/model.sock`, and `out/` for the door's socket.
    #[arg(long)]
    run_dir: PathBuf,
    /// The door's own directory: chat log and sockets; made with mode 0700.
    #[arg(long)]
    state_dir: PathBuf,
    /// The tenant's home.
    #[arg(long)]
    home: PathBuf,
    /// The agent's workspace.
    #[arg(long)]
    workspace: PathBuf,
    /// Directory with `node/node` and `node_modules/openclaw`.
    #[arg(long)]
    openclaw: PathBuf,
    /// How hands are kept apart: bubblewrap, landlock, none, or container.
    #[arg(long)]
    isolation: Isolation,
    /// Give hands the machine's network under bubblewrap, not one of its own with a filtered way out.
    #[arg(long)]
    share_network: bool,
    /// User of hands; required as root, except in a container (10001).
    #[arg(long, requires = "hands_gid")]
    hands_uid: Option<u32>,
    /// Group of hands.
    #[arg(long, requires = "hands_uid")]
    hands_gid: Option<u32>,
    /// How long running turns may take to end after SIGTERM.
    #[arg(long, default_value_t = ending::DRAIN.as_secs())]
    drain_seconds: u64,
    /// After this long without viewers, input and output a terminal is ended.
    #[arg(long, default_value_t = 12 * 60 * 60)]
    terminal_idle_seconds: u64,
}

/// What the start has found and made.
struct Prepared {
    run_dir: RunDir,
    state_dir: PathBuf,
    boot: Boot,
    isolation: Isolation,
    share_network: bool,
    layout: Layout,
    user: Option<HandsUser>,
    drain: Duration,
    terminal_idle: Duration,
}

/// Runs the door until SIGTERM.
pub(crate) fn main(args: Args) -> anyhow::Result<()> {
    process::harden()?;
    process::adopt_orphans()?;
    tracing_subscriber::fmt()
        .json()
        .with_writer(log::Log::new())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("REEF_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    // Namespaces are taken by the thread that asks, so before there are others.
    let prepared = prepare::prepare(args)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(prepared))
}

async fn run(prepared: Prepared) -> anyhow::Result<()> {
    let Prepared { run_dir, state_dir, boot, isolation, share_network, layout, user, drain, terminal_idle } =
        prepared;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let status = Arc::new(status::StatusBoard::new(boot.generation, isolation));
    let logs = Arc::new(logs::LogRing::open(clock.clone(), &state_dir));
    let gateway = Arc::new(gateway::Gateway::new(&state_dir, boot.gateway_token.clone()));
    let chat = chat::Chat::open(&state_dir, clock.clone(), gateway.clone())
        .await
        .context("cannot open the chat log")?;
    let listener = reef_door::socket::bind_private(&run_dir.door_socket())
        .with_context(|| format!("cannot listen at {}", run_dir.door_socket().display()))?;

    let routes = http::Routes {
        door_token: boot.door_token.as_str().into(),
        status: status.clone(),
        logs: logs.clone(),
    };
    let requests = named::Requests::open(&state_dir, clock.clone())
        .await
        .context("cannot open what is known of named requests")?;
    let held = held::Held::default();
    let work = work::Work::new();
    let activity = activity::Activity::default();
    let sockets = sockets::Sockets::new(activity.clone());
    let home = layout.seen_by_hands(isolation).home;
    // Whose use keeps the instance awake; chat notes its own.
    let terminals = terminal::Terminals::new(work.clone(), sockets.clone(), clock.clone(), terminal_idle);
    let used = axum::Router::new()
        .merge(files::router(work.clone(), held.clone(), [&layout.workspace, &layout.home]))
        .merge(terminals.router())
        .merge(desktop::router(work.clone(), sockets.clone(), isolation, home, clock.clone()))
        .layer(from_fn_with_state(requests, named::remember))
        .layer(from_fn_with_state(activity.clone(), activity::note));
    let rooms = chat
        .clone()
        .router()
        .merge(used)
        .layer(from_fn_with_state(held, held::hold))
        .layer(from_fn(problem::render))
        .merge(sockets.clone().router());
    let app = http::router(routes, rooms);
    let (stop_chat, stop_server, shutdown) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let server = tokio::spawn(serve(listener, app, stop_server.clone()));
    let chat_runs = tokio::spawn(chat.clone().run(stop_chat.clone()));
    tokio::spawn(mirror_activity(chat.activity(), status.clone()));
    tokio::spawn(activity.tell(status.clone(), clock));
    tracing::info!(instance = %boot.instance_id, generation = boot.generation, %isolation, "the door is open");

    let supervisor = supervisor::Supervisor {
        boot,
        isolation,
        share_network,
        layout,
        user,
        status: status.clone(),
        logs,
        gateway,
        chat: chat.clone(),
        model: model::ModelRelay::new(run_dir.model_socket()),
        work,
        shutdown: shutdown.clone(),
    };
    let ending = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("going down");
        status.set_phase(DoorPhase::Draining, None);
        sockets.close_all(&CloseReason::STOPPING);
        chat.drain(Instant::now() + drain).await;
        shutdown.cancel();
    };
    // On this thread, which lives as long as the process: the sandbox dies with the thread that started it.
    tokio::join!(supervisor.run(), ending);
    stop_chat.cancel();
    let _ = tokio::time::timeout(ending::ANSWERS, chat_runs).await;
    stop_server.cancel();
    let _ = tokio::time::timeout(ending::ANSWERS, server).await;
    Ok(())
}

async fn serve(listener: UnixListener, app: axum::Router, stop: CancellationToken) {
    let server = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "the listener failed");
    }
}

async fn mirror_activity(
    mut activity: tokio::sync::watch::Receiver<chat::Activity>,
    status: Arc<status::StatusBoard>,
) {
    loop {
        let now = *activity.borrow_and_update();
        status.update(|status| {
            status.active_turns = now.active_turns;
            status.last_active_at = status.last_active_at.max(now.last_active_at);
        });
        if activity.changed().await.is_err() {
            return;
        }
    }
}
