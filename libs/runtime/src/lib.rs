//! Where instances run: the trait [`Runtime`], what it is told and what it reports.
//!
//! An adapter is a crate of its own that implements [`Runtime`] and passes [`conformance`]. It knows containers or
//! processes; it knows no tenant's rights, no database and no HTTP. Every method is idempotent: loops and people may
//! call twice, and a call may be cut off at any instruction and made again.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use reef_door::RunDir;
use reef_model::{InstanceId, Isolation, Limits, Power, RuntimeKind, Timestamp, UserId};
use secrecy::SecretString;
use tokio::net::UnixStream;

pub mod conformance;
pub mod door;
pub mod files;

/// Everything a runtime must know to bring an instance up.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// The instance.
    pub id: InstanceId,
    /// Its owner, for labels.
    pub tenant: UserId,
    /// The generation of intent that this start serves; kept on the runtime's objects and in the boot file.
    pub generation: i64,
    /// CPU, memory and process limits.
    pub limits: Limits,
    /// The image; none: the runtime's own default.
    pub image: Option<String>,
    /// Environment for the tenant's processes.
    pub env: BTreeMap<String, String>,
    /// Control plane to door.
    pub door_token: SecretString,
    /// Door to OpenClaw gateway.
    pub gateway_token: SecretString,
}

impl InstanceSpec {
    /// Checks what no runtime could start.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`], saying what to change.
    pub fn check(&self) -> Result<(), RuntimeError> {
        /// All of it must fit into the arguments and environment of one execve(2) with room to spare.
        const ENV_BYTES_MAX: usize = 64 << 10;
        let refused = |message: String| Err(RuntimeError::Refused(message));
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if let Some(name) = self.env.keys().find(|name| !is_name(name)) {
            return refused(format!("{name:?} is no name of an environment variable: use A-Z, 0-9 and _"));
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return refused(format!("the environment variable {name} holds a zero byte"));
        }
        if self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > ENV_BYTES_MAX {
            return refused(format!(
                "the environment is larger than {ENV_BYTES_MAX} bytes: use a file instead"
            ));
        }
        if self.generation < 1 {
            return refused("a generation starts at 1".into());
        }
        let Limits { cpu_millis, memory_bytes, pids } = self.limits;
        if cpu_millis == 0 || memory_bytes == 0 || pids == 0 {
            return refused("limits of CPU, memory and processes must be greater than zero".into());
        }
        Ok(())
    }
}

/// What a runtime sees of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The instance, from the runtime's label.
    pub id: InstanceId,
    /// The runtime's own handle: a container id of 64 hex digits, `pid:start-time` of a process; empty where only data
    /// is left.
    pub handle: String,
    /// The generation that the present or last start served; 0 where never started.
    pub generation: i64,
    /// What the processes do.
    pub power: Power,
    /// When they were started.
    pub started_at: Option<Timestamp>,
    /// How the last run ended, where `power` is stopped and it ended by itself.
    pub exit: Option<Exit>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit status, or 128 + signal; -1 where it ended while no control plane was there to see how.
    pub code: i32,
    /// Whether it was killed for want of memory.
    pub is_oom: bool,
}

/// Something may have changed: look. May be lost or doubled; [`Runtime::list`] is the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// This instance.
    Instance(InstanceId),
    /// Anything (the stream was cut and resumed).
    All,
}

/// What `reef doctor` says of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether instances cannot run because of it.
    pub is_fatal: bool,
    /// What is so and, where it is wrong, what to type.
    pub message: String,
}

/// Why a runtime could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The spec can never work; the message says what to change.
    #[error("{0}")]
    Refused(String),
    /// No room on this machine now.
    #[error("{0}")]
    Capacity(String),
    /// The engine or the machine failed; trying again may help.
    #[error("{context}")]
    Failed {
        /// The step.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RuntimeError {
    /// Wraps a failure of a step.
    pub fn failed(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { context: context.into(), source: source.into() }
    }
}

/// A place where instances run.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Returns which runtime this is.
    fn kind(&self) -> RuntimeKind;

    /// Returns how it keeps a tenant's processes apart.
    fn isolation(&self) -> Isolation;

    /// Tells what an operator should know; a fatal finding stops `reef serve`.
    async fn check(&self) -> Vec<Finding>;

    /// Puts back what others on this machine may have taken away from under instances that run; called again and again, so
    /// cheap where nothing is missing.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] where it cannot be put back.
    async fn keep(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Makes what is missing (directories, volumes, container) and starts the instance, unless it runs with this
    /// generation already. One that runs with another generation is stopped (with `grace`) and started anew.
    /// Data (workspace, home, chat log) is kept.
    ///
    /// The instance's `in/` directory exists before anything of it runs; `model.sock` there is the caller's.
    ///
    /// # Errors
    /// [`RuntimeError`]; nothing runs after an error, and what was made is found by [`Runtime::list`].
    async fn ensure_started(&self, spec: &InstanceSpec, grace: Duration) -> Result<Observed, RuntimeError>;

    /// Stops the processes, gracefully for at most `grace`, then by force. Data is kept. `Ok(false)`: nothing ran.
    async fn stop(&self, id: InstanceId, grace: Duration) -> Result<bool, RuntimeError>;

    /// Removes the instance with its data and all that carries its label. `Ok(false)`: there was nothing.
    async fn remove(&self, id: InstanceId) -> Result<bool, RuntimeError>;

    /// Returns what is there of one instance; `None`: nothing at all.
    async fn inspect(&self, id: InstanceId) -> Result<Option<Observed>, RuntimeError>;

    /// Returns everything that carries our label, found without the database.
    async fn list(&self) -> Result<Vec<Observed>, RuntimeError>;

    /// Returns hints from now on; ends only with the runtime.
    fn hints(&self) -> BoxStream<'static, Hint>;

    /// Returns the instance's run directory, made if missing; its path never changes.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] where it cannot be made.
    async fn run_dir(&self, id: InstanceId) -> Result<RunDir, RuntimeError>;

    /// Connects to the instance's door, following no link.
    ///
    /// # Errors
    /// The cause; `NotFound` and `ConnectionRefused` while the door is not up.
    async fn dial(&self, id: InstanceId) -> std::io::Result<UnixStream>;
}

/// The directory of all instances below the data directory.
pub fn instances_dir(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("instances")
}
