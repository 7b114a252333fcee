//! The verbs, and the reconcilers that make them come true.
//!
//! A verb changes intent in one transaction, with its audit row, and returns at once; a reconciler ([`reconcile`])
//! compares intent with fact and converges. HTTP handlers, the CLI and background work call the same verbs, so there is
//! one way to stop an instance. Nothing here knows HTTP statuses; the API maps [`ControlError`].
//!
//! To add a verb on instances: a file under `instance/`; what it means for the runtime goes into [`reconcile::plan`].

pub mod account;
mod actor;
mod courier;
mod door;
mod error;
mod events;
pub mod instance;
mod lease;
pub mod reconcile;

use std::{collections::BTreeMap, io, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use reef_auth::SecretBox;
use reef_db::Db;
use reef_door::RunDir;
use reef_model::{Clock, InstanceId, Timestamp};
use reef_runtime::Runtime;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use actor::Actor;
pub use courier::Courier;
pub use error::ControlError;
pub use events::{Event, EventKind};
pub(crate) use lease::Lease;

/// Gives instances their way to a model: one socket each.
#[async_trait]
pub trait ModelAccess: Send + Sync + 'static {
    /// Listens at the run directory's `model.sock` for this instance; does nothing where it does so already.
    ///
    /// # Errors
    /// The cause where the socket cannot be made.
    async fn serve(&self, id: InstanceId, run_dir: &RunDir) -> io::Result<()>;

    /// Stops listening for this instance.
    fn release(&self, id: InstanceId);
}

/// What the verbs may decide by configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long a deleted instance can be restored.
    pub restore_window: Duration,
    /// Images that owners may choose beside the runtime's default.
    pub offered_images: Vec<String>,
    /// Idle time before sleep where the owner chose none.
    pub idle_timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restore_window: Duration::from_secs(7 * 24 * 3600),
            offered_images: Vec::new(),
            idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// The verbs over their means; cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

/// What [`Control`] is made of; the composition root chooses each.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where instances run.
    pub runtime: Arc<dyn Runtime>,
    /// How instances reach models.
    pub model_access: Arc<dyn ModelAccess>,
    /// Encrypts tokens at rest.
    pub secrets: SecretBox,
    /// A name for this process, unique among replicas and runs.
    pub replica: String,
    /// Choices of the operator.
    pub policy: Policy,
}

/// The inside of [`Control`].
pub struct Inner {
    parts: Parts,
    accounts: account::Accounts,
    queue: reconcile::Queue,
    activity: reconcile::Activity,
    silence: reconcile::Silence,
    events: broadcast::Sender<Arc<Event>>,
    told: events::Told,
    upstreams: moka::future::Cache<InstanceId, Arc<instance::Upstream>>,
    watches: std::sync::Mutex<BTreeMap<InstanceId, CancellationToken>>,
}

impl Deref for Control {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Control {
    /// Puts the parts together; nothing runs until [`reconcile::run`] does.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            accounts: account::Accounts::new(parts.db.clone(), parts.clock.clone(), parts.secrets.clone()),
            parts,
            queue: reconcile::Queue::default(),
            activity: reconcile::Activity::default(),
            silence: reconcile::Silence::default(),
            events: broadcast::channel(1_024).0,
            told: events::Told::default(),
            upstreams: instance::upstream_cache(),
            watches: std::sync::Mutex::default(),
        }))
    }
}

impl Inner {
    /// Returns the database.
    pub fn db(&self) -> &Db {
        &self.parts.db
    }

    /// Returns the verbs on accounts.
    pub fn accounts(&self) -> &account::Accounts {
        &self.accounts
    }

    /// Returns the runtime.
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.parts.runtime
    }

    /// Returns the present instant.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Returns the operator's choices.
    pub fn policy(&self) -> &Policy {
        &self.parts.policy
    }

    /// Returns what encrypts secrets at rest.
    pub fn secrets(&self) -> &SecretBox {
        &self.parts.secrets
    }

    pub(crate) fn model_access(&self) -> &dyn ModelAccess {
        &*self.parts.model_access
    }

    pub(crate) fn activity(&self) -> &reconcile::Activity {
        &self.activity
    }

    pub(crate) fn silence(&self) -> &reconcile::Silence {
        &self.silence
    }

    pub(crate) fn queue(&self) -> &reconcile::Queue {
        &self.queue
    }

    pub(crate) fn replica(&self) -> &str {
        &self.parts.replica
    }
}
