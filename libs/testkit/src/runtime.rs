//! A place where instances run, in memory; their doors are real sockets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use reef_door::{DoorPhase, DoorStatus, RunDir, socket::connect_nofollow};
use reef_model::{Clock, InstanceId, Isolation, Power, RuntimeKind, Timestamp};
use reef_runtime::{
    Exit, Finding, Hint, InstanceSpec, Observed, Runtime, RuntimeError,
    files::{ensure_dir, ensure_run_dir, remove_tree},
};
use rustix::io::Errno;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    runtime::Handle,
    sync::{broadcast, watch},
};
use tokio_stream::wrappers::BroadcastStream;

use crate::{
    Received, Script, TestClock,
    door::{Door, Memory},
};

/// What somebody does who stops an instance.
const STOP: &str = "a stop";

/// A start that came to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The instance.
    pub id: InstanceId,
    /// For which generation.
    pub generation: i64,
}

/// Implements [`Runtime`] without processes; a test can make it fail.
///
/// It holds what every caller promises: that nobody works on an instance at the same time as somebody else, and that
/// nothing that runs is started again. Breaches are told by [`FakeRuntime::breaches`].
pub struct FakeRuntime {
    directory: TempDir,
    clock: Arc<TestClock>,
    handle: Handle,
    state: Mutex<State>,
    starts: watch::Sender<Starts>,
    /// Whether stops hang.
    drains: watch::Sender<bool>,
    hints: broadcast::Sender<Hint>,
}

#[derive(Default)]
struct State {
    machines: BTreeMap<InstanceId, Machine>,
    memories: BTreeMap<InstanceId, Arc<Memory>>,
    working: BTreeMap<InstanceId, &'static str>,
    started: Vec<Start>,
    attempts: usize,
    removed: Vec<InstanceId>,
    breaches: Vec<String>,
    first_phase: Option<(DoorPhase, Option<String>)>,
    dial_errno: Option<Errno>,
    failed_dials: usize,
    tokens: Vec<String>,
}

struct Machine {
    observed: Observed,
    door: Option<Door>,
}

/// What becomes of starts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Starts {
    Succeed,
    Fail(String),
    Refuse(String),
    Hang,
}

impl FakeRuntime {
    /// Returns a runtime whose doors live in the present tokio runtime.
    pub(crate) fn new(clock: Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self {
            directory: tempfile::tempdir().unwrap(),
            clock,
            handle: Handle::current(),
            state: Mutex::default(),
            starts: watch::channel(Starts::Succeed).0,
            drains: watch::channel(false).0,
            hints: broadcast::channel(1024).0,
        })
    }

    /// Lets every start fail, as an engine that is out of order would.
    pub fn fail_starts(&self, step: &str) {
        self.starts.send_replace(Starts::Fail(step.to_owned()));
    }

    /// Refuses every start, as a spec that can never work would be.
    pub fn refuse_starts(&self, why: &str) {
        self.starts.send_replace(Starts::Refuse(why.to_owned()));
    }

    /// Lets every start hang until [`Self::heal`].
    pub fn hang_starts(&self) {
        self.starts.send_replace(Starts::Hang);
    }

    /// Lets every stop hang, as one of an instance with a long turn does, until [`Self::heal`]; its door stays.
    pub fn hang_stops(&self) {
        self.drains.send_replace(true);
    }

    /// Returns how many stops are under way.
    pub fn stopping(&self) -> usize {
        self.lock().working.values().filter(|work| **work == STOP).count()
    }

    /// Lets starts succeed and stops end again; those that hang go on.
    pub fn heal(&self) {
        self.drains.send_replace(false);
        self.starts.send_replace(Starts::Succeed);
    }

    /// Lets the doors of later starts come up in this phase instead of `ready`.
    pub fn doors_begin(&self, phase: DoorPhase, reason: Option<&str>) {
        self.lock().first_phase = Some((phase, reason.map(str::to_owned)));
    }

    /// Changes what an instance's door reports.
    pub fn set_phase(&self, id: InstanceId, phase: DoorPhase, reason: Option<&str>) {
        let state = self.lock();
        let door = state.machines.get(&id).and_then(|machine| machine.door.as_ref()).expect("a door is open");
        door.status.send_modify(|status| {
            status.revision += 1;
            status.phase = phase;
            status.reason = reason.map(str::to_owned);
        });
    }

    /// Lets an instance's door say when it was last used.
    pub fn set_last_active(&self, id: InstanceId, at: Timestamp) {
        let state = self.lock();
        let door = state.machines.get(&id).and_then(|machine| machine.door.as_ref()).expect("a door is open");
        door.status.send_modify(|status| {
            status.revision += 1;
            status.last_active_at = Some(at);
        });
    }

    /// Lets an instance's run end by itself.
    pub fn kill(&self, id: InstanceId, exit: Exit) {
        {
            let mut state = self.lock();
            let machine = state.machines.get_mut(&id).expect("the instance runs");
            machine.observed.power = Power::Stopped;
            machine.observed.exit = Some(exit);
            machine.door = None;
        }
        self.hint(Hint::Instance(id));
    }

    /// Closes an instance's door while the instance goes on running.
    pub fn close_door(&self, id: InstanceId) {
        self.lock().machines.get_mut(&id).expect("the instance runs").door = None;
    }

    /// Lets every connection to a door fail with this error, until `None`; what is open stays.
    pub fn fail_dials(&self, errno: Option<Errno>) {
        self.lock().dial_errno = errno;
    }

    /// Returns how many connections failed by [`Self::fail_dials`].
    pub fn failed_dials(&self) -> usize {
        self.lock().failed_dials
    }

    /// Says what the instance's door does with the next request to `path` that has no earlier script.
    pub fn script(&self, id: InstanceId, path: &str, script: Script) {
        self.memory(id).script(path, script);
    }

    /// Has the instance's doors ignore that they are asked to end sockets.
    pub fn be_rude(&self, id: InstanceId) {
        self.memory(id).be_rude();
    }

    /// Returns the chat requests that reached the instance's doors.
    pub fn received(&self, id: InstanceId) -> Vec<Received> {
        self.memory(id).received()
    }

    /// Returns the starts that came to something, in order.
    pub fn started(&self) -> Vec<Start> {
        self.lock().started.clone()
    }

    /// Returns how many starts were asked for.
    pub fn attempts(&self) -> usize {
        self.lock().attempts
    }

    /// Returns which instances were removed with their data.
    pub fn removed(&self) -> Vec<InstanceId> {
        self.lock().removed.clone()
    }

    /// Returns what was done twice or at the same time.
    pub fn breaches(&self) -> Vec<String> {
        self.lock().breaches.clone()
    }

    /// Returns every door and gateway token that instances were started with.
    pub fn tokens(&self) -> Vec<String> {
        self.lock().tokens.clone()
    }

    /// Leaves an instance running that no database knows.
    pub fn strand(&self, id: InstanceId) {
        let observed = Observed {
            id,
            handle: "fake:stranded".to_owned(),
            generation: 1,
            power: Power::Running,
            started_at: Some(self.clock.now()),
            exit: None,
        };
        self.lock().machines.insert(id, Machine { observed, door: None });
    }

    /// Tells whether an instance runs.
    pub fn runs(&self, id: InstanceId) -> bool {
        self.lock().machines.get(&id).is_some_and(|machine| machine.observed.power == Power::Running)
    }

    /// Tells whether nobody works on any instance.
    pub fn is_idle(&self) -> bool {
        self.lock().working.is_empty()
    }

    /// Has every reconciler look at everything.
    pub fn nudge(&self) {
        self.hint(Hint::All);
    }

    fn hint(&self, hint: Hint) {
        // Without a reconciler nobody listens.
        let _ = self.hints.send(hint);
    }

    fn memory(&self, id: InstanceId) -> Arc<Memory> {
        self.lock().memories.entry(id).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: InstanceId, what: &'static str) -> Working<'_> {
        let mut state = self.lock();
        if let Some(other) = state.working.insert(id, what) {
            state.breaches.push(format!("{what} of {id} while another replica is at {other}"));
        }
        Working(self, id)
    }

    fn open_door(&self, spec: &InstanceSpec, run: &RunDir) -> Door {
        let (phase, reason) = self.lock().first_phase.clone().unwrap_or((DoorPhase::Ready, None));
        let status = DoorStatus {
            revision: 1,
            generation: spec.generation,
            phase,
            reason,
            isolation: Isolation::Bubblewrap,
            openclaw_version: Some("2026.9.6".to_owned()),
            gateway_restarts: 0,
            active_turns: 0,
            last_active_at: None,
        };
        let token = spec.door_token.expose_secret().to_owned();
        Door::open(&self.handle, run, token, status, self.memory(spec.id))
    }
}

/// Somebody works on an instance; ends also where the work is cut off.
struct Working<'r>(&'r FakeRuntime, InstanceId);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.lock().working.remove(&self.1);
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Process
    }

    fn isolation(&self) -> Isolation {
        Isolation::Bubblewrap
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }

    async fn ensure_started(&self, spec: &InstanceSpec, _grace: Duration) -> Result<Observed, RuntimeError> {
        spec.check()?;
        let _working = self.begin(spec.id, "a start");
        self.lock().attempts += 1;
        let mut starts = self.starts.subscribe();
        let outcome = starts.wait_for(|starts| *starts != Starts::Hang).await.unwrap().clone();
        match outcome {
            Starts::Fail(step) => {
                return Err(RuntimeError::failed(step, "a path of this machine: /secret/place"));
            }
            Starts::Refuse(why) => return Err(RuntimeError::Refused(why)),
            Starts::Succeed | Starts::Hang => {}
        }
        let run = self.run_dir(spec.id).await?;
        let running = self.inspect(spec.id).await?.filter(|observed| observed.power == Power::Running);
        if let Some(observed) = running.filter(|observed| observed.generation == spec.generation) {
            self.lock().breaches.push(format!("{} runs with {} already", spec.id, spec.generation));
            return Ok(observed);
        }
        // The old door first: both listen at the same path.
        if let Some(machine) = self.lock().machines.get_mut(&spec.id) {
            machine.door = None;
        }
        let door = self.open_door(spec, &run);
        let observed = Observed {
            id: spec.id,
            handle: format!("fake:{}", spec.generation),
            generation: spec.generation,
            power: Power::Running,
            started_at: Some(self.clock.now()),
            exit: None,
        };
        let mut state = self.lock();
        let tokens = [&spec.door_token, &spec.gateway_token].map(|token| token.expose_secret().to_owned());
        state.tokens.extend(tokens);
        state.started.push(Start { id: spec.id, generation: spec.generation });
        state.machines.insert(spec.id, Machine { observed: observed.clone(), door: Some(door) });
        Ok(observed)
    }

    async fn stop(&self, id: InstanceId, _grace: Duration) -> Result<bool, RuntimeError> {
        let _working = self.begin(id, STOP);
        let _ = self.drains.subscribe().wait_for(|drains| !drains).await;
        let mut state = self.lock();
        let Some(machine) = state.machines.get_mut(&id) else { return Ok(false) };
        machine.door = None;
        Ok(std::mem::replace(&mut machine.observed.power, Power::Stopped) == Power::Running)
    }

    async fn remove(&self, id: InstanceId) -> Result<bool, RuntimeError> {
        let _working = self.begin(id, "a removal");
        let run = self.directory.path().join(id.to_string());
        let had_files = remove_tree(&run).map_err(|error| RuntimeError::failed("remove", error))?;
        let mut state = self.lock();
        let had_machine = state.machines.remove(&id).is_some();
        state.removed.push(id);
        Ok(had_files || had_machine)
    }

    async fn inspect(&self, id: InstanceId) -> Result<Option<Observed>, RuntimeError> {
        Ok(self.lock().machines.get(&id).map(|machine| machine.observed.clone()))
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        Ok(self.lock().machines.values().map(|machine| machine.observed.clone()).collect())
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        let hints = BroadcastStream::new(self.hints.subscribe());
        hints.map(|hint| hint.unwrap_or(Hint::All)).chain(futures_util::stream::pending()).boxed()
    }

    async fn run_dir(&self, id: InstanceId) -> Result<RunDir, RuntimeError> {
        let made = ensure_dir(self.directory.path(), 0o700)
            .and_then(|()| ensure_run_dir(&self.directory.path().join(id.to_string())));
        made.map_err(|error| RuntimeError::failed("make the run directory", error))
    }

    async fn dial(&self, id: InstanceId) -> std::io::Result<UnixStream> {
        {
            let mut state = self.lock();
            if let Some(errno) = state.dial_errno {
                state.failed_dials += 1;
                return Err(errno.into());
            }
        }
        let run = RunDir::new(self.directory.path().join(id.to_string()));
        connect_nofollow(&run.door_socket()).await
    }
}
