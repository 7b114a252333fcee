//! The runtime of one person's own machine: a directory and a detached process tree per instance, no container engine.
//!
//! ```text
//! DATA/instances/inst_…/     0711
//!   door.json                who runs: uid, pid, start time, generation, how it ended
//!   door.log, door.log.1     what the door says
//!   run/in  run/out          boot file and model socket; the door's socket
//!   state                    the door's: chat log, answers to named requests
//!   home  workspace          the tenant's, owned by the instance's uid where we are root
//! ```
//!
//! The door outlives the control plane and is found again by `door.json`; see [`ProcessRuntime`]. How hands are kept
//! apart from the door and from the machine is the door's work ([`Isolation`]); here only the level is chosen. Not for
//! tenants that do not trust one another.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use reef_door::{RunDir, socket::connect_nofollow};
use reef_model::{InstanceId, Isolation, RuntimeKind};
use reef_runtime::{Finding, Hint, InstanceSpec, Observed, Runtime, RuntimeError};
use tokio::{net::UnixStream, process::Child, sync::broadcast};

use crate::{
    cgroup::Groups,
    door::blocking,
    home::{Homes, Locked},
    probe::Probe,
    proc::Process,
};

mod cgroup;
mod door;
mod home;
mod probe;
mod proc;

/// What the process runtime must be told.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The platform's data directory; instances live below it.
    pub data_dir: PathBuf,
    /// The program `reef-instance`.
    pub instance_bin: PathBuf,
    /// The directory with `node_modules/openclaw` and its Node.
    pub openclaw_dir: PathBuf,
    /// Whether instances may run where no sandbox works.
    pub allow_bare: bool,
    /// Whether instances use the machine's network where the sandbox could give them one of their own.
    pub share_network: bool,
    /// After how long without viewers, input and output a shell is ended.
    pub terminal_idle: Duration,
}

/// How doors are started.
#[derive(Debug)]
struct Sandbox {
    instance_bin: PathBuf,
    openclaw_dir: PathBuf,
    isolation: Isolation,
    share_network: bool,
    terminal_idle: Duration,
    /// What bounds memory and processes; none: see `unbounded`.
    groups: Option<Groups>,
    /// Why there is nothing that bounds memory.
    unbounded: String,
}

/// Instances as processes of this machine.
#[derive(Debug)]
pub struct ProcessRuntime {
    homes: Homes,
    sandbox: Arc<Sandbox>,
    /// Why there is no stronger sandbox.
    weakness: String,
    allow_bare: bool,
    watch: Arc<Watch>,
}

impl ProcessRuntime {
    /// Finds the strongest sandbox that works here, and the instances that run.
    pub async fn new(config: ProcessConfig) -> Self {
        let ProcessConfig { data_dir, instance_bin, openclaw_dir, allow_bare, share_network, terminal_idle } =
            config;
        let is_privileged = rustix::process::geteuid().is_root();
        // Doors run elsewhere than we do, and a link to the OpenClaw tree may be moved while they run.
        let absolute =
            |path: PathBuf| path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path);
        let instance_bin = absolute(instance_bin);
        let probe = Probe::run(&instance_bin, is_privileged).await;
        let (groups, unbounded) = match Groups::find() {
            Ok(groups) => (Some(groups), String::new()),
            Err(error) => (None, error.to_string()),
        };
        let runtime = Self {
            homes: Homes::new(reef_runtime::instances_dir(&absolute(data_dir)), is_privileged),
            sandbox: Arc::new(Sandbox {
                instance_bin,
                openclaw_dir: absolute(openclaw_dir),
                isolation: probe.isolation,
                share_network,
                terminal_idle,
                groups,
                unbounded,
            }),
            weakness: probe.weakness(),
            allow_bare,
            watch: Arc::new(Watch { hints: broadcast::Sender::new(256), watched: Default::default() }),
        };
        if let Err(error) = runtime.list().await {
            tracing::warn!(%error, "instances that run already are not watched");
        }
        runtime
    }

    fn is_refused(&self) -> bool {
        self.sandbox.isolation == Isolation::None && !self.allow_bare
    }

    fn refusal(&self) -> String {
        format!(
            "no sandbox works here ({}): type `apt-get install bubblewrap`, or set REEF_ALLOW_BARE=1 to let instances \
             run as plain processes",
            self.weakness
        )
    }

    async fn observe(&self, id: InstanceId) -> io::Result<Option<Observed>> {
        let Some(record) = self.homes.record(id)? else { return Ok(None) };
        if let Some(run) = &record.run {
            self.watch.adopt(id, &run.process);
        }
        Ok(Some(record.observe(id)))
    }

    fn leave_group(&self, id: InstanceId) {
        if let Some(groups) = &self.sandbox.groups {
            groups.remove(id);
        }
    }

    async fn lock(&self, id: InstanceId) -> io::Result<Option<Locked>> {
        let homes = self.homes.clone();
        blocking(move || homes.lock(id)).await
    }

    async fn start(&self, spec: &InstanceSpec, grace: Duration) -> io::Result<Observed> {
        let (homes, id) = (self.homes.clone(), spec.id);
        let mut locked = blocking(move || homes.ensure(id)).await?;
        if let Some(run) = locked.record.run.as_ref().filter(|run| run.process.is_alive())
            && run.generation == spec.generation
            && run.end.is_none()
        {
            return Ok(locked.record.observe(id));
        }
        locked.halt(grace).await?;
        let (sandbox, spec) = (self.sandbox.clone(), spec.clone());
        let (homes, watch) = (self.homes.clone(), self.watch.clone());
        blocking(move || {
            let child = locked.start(&sandbox, &spec)?;
            let observed = locked.record.observe(id);
            if let Some(run) = &locked.record.run {
                watch.parent(&homes, id, &run.process, child);
            }
            Ok(observed)
        })
        .await
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    fn isolation(&self) -> Isolation {
        self.sandbox.isolation
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |is_fatal, message: String| findings.push(Finding { is_fatal, message });
        let Sandbox { instance_bin, openclaw_dir, isolation, share_network, groups, unbounded, .. } =
            &*self.sandbox;
        if !instance_bin.is_file() {
            find(true, format!("{} is missing: type `make run`, which builds it", instance_bin.display()));
        }
        for part in ["node/node", "node_modules/openclaw/openclaw.mjs"] {
            let path = openclaw_dir.join(part);
            if !path.is_file() {
                find(true, format!("{} is missing: type `infra/setup/openclaw.sh`", path.display()));
            }
        }
        let weakness = &self.weakness;
        match isolation {
            Isolation::None if self.is_refused() => find(true, self.refusal()),
            Isolation::None => {
                find(false, format!("instances are plain processes with no sandbox ({weakness})"))
            }
            Isolation::Landlock => {
                find(false, format!("instances are kept apart by landlock only ({weakness})"))
            }
            level if *share_network => {
                find(false, format!("instances are kept apart by {level}, but share this machine's network"))
            }
            level => find(false, format!("instances are kept apart by {level}")),
        }
        if groups.is_none() {
            // Whose processes a limit counts, see the door: by user namespace, or by a user of its own.
            let counted = matches!(isolation, Isolation::Bubblewrap);
            let rest =
                if counted { "their processes are counted, " } else { "nothing counts their processes, " };
            find(
                false,
                format!(
                    "instances may use all memory: {rest}but only root may make control groups here ({unbounded}); \
                     use REEF_RUNTIME=docker for limits of memory"
                ),
            );
        }
        findings
    }

    async fn ensure_started(&self, spec: &InstanceSpec, grace: Duration) -> Result<Observed, RuntimeError> {
        spec.check()?;
        if spec.image.is_some() {
            return Err(RuntimeError::Refused(
                "instances of the process runtime have no image: leave it out, or use REEF_RUNTIME=docker"
                    .into(),
            ));
        }
        if self.is_refused() {
            return Err(RuntimeError::Refused(self.refusal()));
        }
        self.start(spec, grace).await.map_err(|error| RuntimeError::failed("starting the door", error))
    }

    async fn stop(&self, id: InstanceId, grace: Duration) -> Result<bool, RuntimeError> {
        let stop = async {
            match self.lock(id).await? {
                Some(mut locked) => {
                    let ran = locked.halt(grace).await?;
                    self.leave_group(id);
                    Ok::<_, io::Error>(ran)
                }
                None => Ok(false),
            }
        };
        stop.await.map_err(|error| RuntimeError::failed("stopping the door", error))
    }

    async fn remove(&self, id: InstanceId) -> Result<bool, RuntimeError> {
        let remove = async {
            let Some(mut locked) = self.lock(id).await? else {
                let homes = self.homes.clone();
                return blocking(move || homes.empty_trash(id)).await;
            };
            locked.halt(Duration::ZERO).await?;
            self.leave_group(id);
            blocking(move || locked.remove()).await?;
            Ok(true)
        };
        remove.await.map_err(|error| RuntimeError::failed("removing the instance's directory", error))
    }

    async fn inspect(&self, id: InstanceId) -> Result<Option<Observed>, RuntimeError> {
        self.observe(id).await.map_err(|error| RuntimeError::failed("reading the instance's record", error))
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        let list = async {
            let mut all = Vec::new();
            for id in self.homes.ids()? {
                all.extend(self.observe(id).await?);
            }
            Ok::<_, io::Error>(all)
        };
        list.await.map_err(|error| RuntimeError::failed("reading the instances' records", error))
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        stream::unfold(self.watch.hints.subscribe(), async |mut hints| match hints.recv().await {
            Ok(hint) => Some((hint, hints)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some((Hint::All, hints)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
        .boxed()
    }

    async fn run_dir(&self, id: InstanceId) -> Result<RunDir, RuntimeError> {
        let run_dir = self.homes.run_dir(id);
        // What exists is not waited for: the lock is held as long as a stop takes.
        if !run_dir.outward().is_dir() {
            let homes = self.homes.clone();
            blocking(move || homes.ensure(id).map(drop))
                .await
                .map_err(|error| RuntimeError::failed("making the run directory", error))?;
        }
        Ok(run_dir)
    }

    async fn dial(&self, id: InstanceId) -> io::Result<UnixStream> {
        connect_nofollow(&self.homes.run_dir(id).door_socket()).await
    }
}

/// Waits for the ends of doors, and tells.
#[derive(Debug)]
struct Watch {
    hints: broadcast::Sender<Hint>,
    watched: std::sync::Mutex<HashSet<Process>>,
}

impl Watch {
    /// Watches a door that we started: only its parent learns how it ended.
    fn parent(self: &Arc<Self>, homes: &Homes, id: InstanceId, process: &Process, mut child: Child) {
        self.enter(process);
        let (watch, homes, process) = (self.clone(), homes.clone(), process.clone());
        tokio::spawn(async move {
            let outcome = async {
                let status = child.wait().await?;
                let ended = process.clone();
                blocking(move || match homes.lock(id)? {
                    Some(mut locked) => locked.record_end(&ended, status),
                    None => Ok(()),
                })
                .await
            };
            if let Err(error) = outcome.await {
                tracing::warn!(instance = %id, %error, "how a door ended is not recorded");
            }
            watch.leave(id, &process);
        });
    }

    /// Watches a door that an earlier control plane started, unless it is watched or has ended.
    fn adopt(self: &Arc<Self>, id: InstanceId, process: &Process) {
        let Some(pidfd) = process.open() else { return };
        if !self.enter(process) {
            return;
        }
        let (watch, process) = (self.clone(), process.clone());
        tokio::spawn(async move {
            if let Err(error) = proc::ended(pidfd).await {
                tracing::warn!(instance = %id, %error, "a door is not watched");
            }
            watch.leave(id, &process);
        });
    }

    fn enter(&self, process: &Process) -> bool {
        self.watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(process.clone())
    }

    fn leave(&self, id: InstanceId, process: &Process) {
        self.watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(process);
        // Nobody listening is fine.
        let _ = self.hints.send(Hint::Instance(id));
    }
}
