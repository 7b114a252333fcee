//! The desktop: `/vnc/…`.
//!
//! An X server with a window manager ([`server`]) that the first use starts. Viewers speak RFB (RFC 6143) with it over a
//! WebSocket ([`relay`]), whose bytes the door does not read except for those who must only look ([`view_only`]). For
//! computer use the door is a client itself ([`client`]): it takes pictures ([`picture`]) and gives input ([`input`]).

mod client;
mod input;
mod picture;
mod relay;
mod server;
mod socket;
mod view_only;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, header};
use reef_door::{
    ErrorCode,
    desktop::{DesktopState, DesktopStatus, InputDone, InputEvent},
};
use reef_model::{Clock, Isolation};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use self::{
    client::Client,
    input::{Stage, Step},
    server::{NoDesktop, Server, Stand},
    view_only::ViewOnly,
};
use super::{
    problem::{self, Body, Params, Problem},
    sockets::{Sockets, ending::handshake},
    work::Work,
};

/// How long a picture, a handshake or the end of an input may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that was kept may take to show that it lives.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// How long a connection is kept for the next picture or input.
const KEEP: Duration = Duration::from_secs(30);
/// Narrower pictures show nothing.
const MIN_WIDTH: usize = 16;

/// The desktop of the instance.
struct Desktop {
    server: Server,
    sockets: Sockets,
    viewers: AtomicU32,
    kept: Mutex<Option<Kept>>,
    /// Where input left the pointer; held while input is given, so that two requests do not mix.
    pointer: tokio::sync::Mutex<Option<(u16, u16)>>,
    /// A picture takes memory, and so there is one at a time.
    camera: Semaphore,
}

/// A connection without work.
struct Kept {
    client: Client,
    /// Of which start of the server.
    start: u64,
    /// Tells whether it is still this one.
    token: Arc<()>,
}

/// Returns `/vnc…` without authentication. Of `home` hands sees the tenant's; nothing runs before the first use.
pub(crate) fn router(
    work: Work,
    sockets: Sockets,
    isolation: Isolation,
    home: PathBuf,
    clock: Arc<dyn Clock>,
) -> Router {
    let desktop = Arc::new(Desktop {
        server: Server::new(work, isolation, home, clock),
        sockets,
        viewers: AtomicU32::new(0),
        kept: Mutex::default(),
        pointer: tokio::sync::Mutex::default(),
        camera: Semaphore::new(1),
    });
    tokio::spawn({
        let desktop = desktop.clone();
        async move { desktop.server.run().await }
    });
    Router::new()
        .route("/vnc/status", get(status))
        .route("/vnc/screenshot", get(screenshot))
        .route("/vnc/input", post(give_input))
        .route("/vnc/ws", get(show))
        .layer(middleware::from_fn(problem::render))
        .with_state(desktop)
}

/// Tells how the desktop stands, without starting it.
async fn status(State(desktop): State<Arc<Desktop>>) -> Json<DesktopStatus> {
    let Stand { state, reason, .. } = desktop.server.stand().await;
    let viewers = desktop.viewers.load(Ordering::Relaxed);
    let mut status = DesktopStatus { state, reason, width: None, height: None, viewers };
    if state == DesktopState::Running
        && let Ok((client, start)) = desktop.client().await
    {
        let (width, height) = client.size();
        (status.width, status.height) = (Some(width), Some(height));
        desktop.keep(client, start);
    }
    Json(status)
}

/// Takes a picture.
async fn screenshot(State(desktop): State<Arc<Desktop>>, params: Params) -> Result<Response, Problem> {
    if params.get::<String>("format", "png")?.is_some_and(|format| format != "png") {
        return Err(Problem::field("format", "must be png"));
    }
    let width = params.get::<usize>("width", "a number of pixels")?;
    if width.is_some_and(|width| width < MIN_WIDTH) {
        return Err(Problem::field("width", "must be at least 16"));
    }
    let _turn = desktop.camera.acquire().await;
    let (mut client, start) = desktop.client().await?;
    let picture = within(client.picture()).await?;
    desktop.keep(client, start);
    let file = tokio::task::spawn_blocking(move || match width {
        Some(width) => picture.at_most(width).png(),
        None => picture.png(),
    });
    match file.await {
        Ok(Ok(file)) => {
            let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")];
            Ok((headers, file).into_response())
        }
        failed => {
            tracing::error!(?failed, "a picture could not be written");
            Err(Problem::new(ErrorCode::InternalError, "The picture could not be written. Try again."))
        }
    }
}

/// Does what the events say; answers once the desktop has taken all of it.
async fn give_input(
    State(desktop): State<Arc<Desktop>>,
    body: Body<Vec<InputEvent>>,
) -> Result<Json<InputDone>, Problem> {
    let events = body.value;
    let mut pointer = desktop.pointer.lock().await;
    let (mut client, start) = desktop.client().await?;
    let size = client.size();
    // Where an X server puts it at its start.
    let mut stage = Stage { size, pointer: pointer.unwrap_or((size.0 / 2, size.1 / 2)) };
    let steps = match stage.plan(&events) {
        Ok(steps) => steps,
        Err(wrong) => {
            desktop.keep(client, start);
            return Err(Problem::field(&wrong.field, &wrong.message));
        }
    };
    for step in steps {
        match step {
            Step::Send(messages) => within(client.send(&messages)).await?,
            Step::Pause(time) => sleep(time).await,
        }
    }
    within(client.settle()).await?;
    *pointer = Some(stage.pointer);
    desktop.keep(client, start);
    Ok(Json(InputDone { events: events.len() }))
}

/// Shows the desktop over a WebSocket (RFC 6455).
async fn show(
    State(desktop): State<Arc<Desktop>>,
    headers: HeaderMap,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = handshake(upgrade)?;
    let filter = match params.get::<String>("view_only", "0 or 1")?.as_deref() {
        None | Some("0" | "false") => None,
        Some("1" | "true") => Some(ViewOnly::new()),
        Some(_) => return Err(Problem::field("view_only", "must be 0 or 1")),
    };
    let seat = desktop.sockets.enter(&headers)?;
    desktop.server.ensure_running().await?;
    let socket = desktop.server.connect().await?;
    Ok(upgrade.protocols(["binary"]).on_upgrade(async move |web| {
        let _viewer = Viewer::new(&desktop);
        relay::relay(web, socket, filter, seat).await;
    }))
}

impl Desktop {
    /// Returns a connection that lives, and the start of the server that it is of; starts the desktop if need be.
    async fn client(&self) -> Result<(Client, u64), NoDesktop> {
        let start = self.server.ensure_running().await?;
        let kept = self.kept().take().filter(|kept| kept.start == start);
        if let Some(mut kept) = kept
            && let Ok(Ok(())) = timeout(SETTLE_LIMIT, kept.client.settle()).await
        {
            return Ok((kept.client, start));
        }
        let socket = self.server.connect().await?;
        let client = timeout(CLIENT_LIMIT, Client::connect(socket)).await.map_err(io::Error::from)??;
        Ok((client, start))
    }

    /// Keeps a connection for a while.
    fn keep(self: &Arc<Self>, client: Client, start: u64) {
        let token = Arc::new(());
        *self.kept() = Some(Kept { client, start, token: token.clone() });
        let desktop = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(KEEP).await;
            if let Some(desktop) = desktop.upgrade() {
                desktop.kept().take_if(|kept| Arc::ptr_eq(&kept.token, &token));
            }
        });
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a viewer while it looks.
struct Viewer(Arc<Desktop>);

impl Viewer {
    fn new(desktop: &Arc<Desktop>) -> Self {
        desktop.viewers.fetch_add(1, Ordering::Relaxed);
        Self(desktop.clone())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bounds what a server that may be anything takes its time for.
async fn within<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, NoDesktop> {
    Ok(timeout(CLIENT_LIMIT, work).await.map_err(io::Error::from)??)
}

impl From<NoDesktop> for Problem {
    fn from(error: NoDesktop) -> Self {
        match error {
            NoDesktop::Unavailable(reason) => {
                Self::new(ErrorCode::Conflict, format!("There is no desktop: {reason}."))
                    .with(json!({ "reason": "desktop_unavailable" }))
            }
            NoDesktop::Late(None) => Self::not_ready("The desktop is starting. Try again in a moment."),
            NoDesktop::Late(Some(reason)) => {
                Self::not_ready(format!("The desktop does not start: {reason}."))
            }
            NoDesktop::Work(error) => error.into(),
            NoDesktop::Io(error) => Self::new(
                ErrorCode::UpstreamError,
                format!("The desktop does not answer as it should: {error}."),
            ),
        }
    }
}
