//! Gives instances their models: one unix socket each, OpenAI-compatible, metered.
//!
//! The socket a request comes in on says whose it is, so an instance holds no provider key and needs no route to
//! anywhere. Requests go to the operator's provider, streamed as they come, or to the built-in demo model where none
//! is configured. What a request used is handed to the [`UsageSink`] before its last chunk is released.
//!
//! To add a route of the OpenAI API, add it to `routes`; to add a kind of provider, add a branch beside `provider`.

mod demo;
mod error;
mod held;
mod meter;
mod prompt;
mod provider;
mod sse;

use std::{
    collections::HashMap,
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use reef_door::{RunDir, socket::bind_private};
use reef_model::InstanceId;
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    error::ModelError,
    held::{Held, Room},
    meter::Meter,
    provider::Provider,
};
pub use crate::{
    meter::{Usage, UsageSink},
    provider::ProviderConfig,
};

/// The model's name in an instance; the operator's configuration says what it is.
pub const DEFAULT_MODEL: &str = "default";
/// A conversation with images in it; the door relays no more either.
const MAX_BODY_BYTES: usize = 32 << 20;

/// All instances' way to models; clones are one.
#[derive(Clone)]
pub struct ModelGateway(Arc<Inner>);

struct Inner {
    model: Model,
    sink: Arc<dyn UsageSink>,
    room: Room,
    sockets: Mutex<HashMap<InstanceId, Socket>>,
    tasks: TaskTracker,
}

enum Model {
    Demo,
    Provider(Provider),
}

struct Socket {
    path: PathBuf,
    inode: u64,
    closing: CancellationToken,
}

impl ModelGateway {
    /// Returns a gateway to the operator's provider, or to the demo model where there is none.
    ///
    /// # Errors
    /// The cause where no HTTP client can be made: no TLS provider is installed, or no root certificates are found.
    pub fn new(provider: Option<ProviderConfig>, sink: Arc<dyn UsageSink>) -> Result<Self, reqwest::Error> {
        let model = match provider {
            Some(config) => Model::Provider(Provider::new(config)?),
            None => Model::Demo,
        };
        Ok(Self(Arc::new(Inner {
            model,
            sink,
            room: Room::of_all(),
            sockets: Mutex::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Listens at the run directory's `model.sock` for the instance; does nothing where it does so already.
    ///
    /// A socket that was removed from its directory, or is in another one, is made anew.
    ///
    /// # Errors
    /// The cause where the socket cannot be made.
    pub fn serve(&self, id: InstanceId, run_dir: &RunDir) -> io::Result<()> {
        let path = run_dir.model_socket();
        let mut sockets = self.sockets();
        if let Some(socket) = sockets.get(&id) {
            let is_there = std::fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == socket.inode);
            if socket.path == path && is_there {
                return Ok(());
            }
        }
        let listener = bind_private(&path)?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        let closing = CancellationToken::new();
        if let Some(earlier) = sockets.insert(id, Socket { path, inode, closing: closing.clone() }) {
            earlier.closing.cancel();
        }
        let routes = routes(Instance { id, gateway: self.clone(), room: Room::of_one() });
        self.0.tasks.spawn(async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(closing.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!(instance = %id, error = &error as &dyn std::error::Error, "model socket failed");
            }
        });
        Ok(())
    }

    /// Stops listening for the instance; answers under way are finished.
    pub fn release(&self, id: InstanceId) {
        if let Some(socket) = self.sockets().remove(&id) {
            socket.closing.cancel();
        }
    }

    /// Stops listening for all, and waits at most `grace` for answers under way. Returns whether all were finished.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.sockets().drain().for_each(|(_, socket)| socket.closing.cancel());
        self.0.tasks.close();
        tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok()
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<InstanceId, Socket>> {
        self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instance behind one socket.
#[derive(Clone)]
struct Instance {
    id: InstanceId,
    gateway: ModelGateway,
    room: Room,
}

impl Instance {
    fn meter(&self, model: &str, request_bytes: usize) -> Meter {
        Meter::new(self.gateway.0.sink.clone(), self.id, model, request_bytes)
    }
}

fn routes(instance: Instance) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .fallback(async || ModelError::NotFound)
        .method_not_allowed_fallback(async || ModelError::MethodNotAllowed)
        .with_state(instance)
}

async fn models() -> Json<serde_json::Value> {
    Json(json!({
        "object": "list",
        "data": [{ "id": DEFAULT_MODEL, "object": "model", "created": 0, "owned_by": "reef" }],
    }))
}

async fn chat_completions(State(instance): State<Instance>, body: Held) -> Result<Response, ModelError> {
    match &instance.gateway.0.model {
        Model::Demo => demo::answer(&body, instance.meter("demo", body.len())),
        Model::Provider(provider) => provider.chat(&body, instance.meter(provider.model(), body.len())).await,
    }
}

async fn embeddings(State(instance): State<Instance>, body: Held) -> Result<Response, ModelError> {
    match &instance.gateway.0.model {
        Model::Demo => Err(ModelError::Refused("the demo model makes no embeddings")),
        Model::Provider(provider) => {
            provider.embeddings(&body, instance.meter(provider.embedding_model(), body.len())).await
        }
    }
}
