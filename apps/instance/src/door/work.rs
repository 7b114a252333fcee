//! The way from the door to hands: what hands should open, start and end.
//!
//! Calls go over the work channel ([`crate::wire::work`]) of whichever hands is running; where none is, they wait for the
//! next one. What comes back is hostile: numbers that nobody waits for are dropped with their descriptors.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

use crate::wire::{
    Channel, MAX_MESSAGE,
    work::{Ask, Call, End, Failure, FailureKind, Reply, Said, Spawn},
};

/// How long a call waits for hands to be started again, or for a free slot.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls that hands works on at a time; each may hold one of its threads.
const CALLS: usize = 128;
/// Room for the envelope of a call within a message.
const ENVELOPE_BYTES: usize = 1024;

/// Bytes of JSON that one call may have.
pub(crate) const MAX_CALL: usize = MAX_MESSAGE - ENVELOPE_BYTES;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// Hands did not do it.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Hands is not running, or ended meanwhile; whether the call was carried out is not known.
    #[error("the instance's processes are being started again: try again in a moment")]
    Gone,
    /// Too many calls at once.
    #[error("the instance is busy with other files and commands: try again in a moment")]
    Busy,
    /// It sent something else than what was asked for.
    #[error("the instance's answer makes no sense")]
    Nonsense,
}

/// The way to hands. Clones share it.
#[derive(Clone)]
pub(crate) struct Work(Arc<Inner>);

struct Inner {
    link: watch::Sender<Option<Arc<Link>>>,
    slots: Semaphore,
}

/// A running hands.
struct Link {
    channel: Channel,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    children: HashMap<u32, watch::Sender<Option<End>>>,
    is_closed: bool,
}

/// A reply, its descriptors, and the child that it names: unread, that is killed.
type Answer = Result<Answered, Failure>;
type Answered = (Reply, Vec<OwnedFd>, Option<Process>);

impl Work {
    /// Returns a way that leads nowhere yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { link: watch::Sender::new(None), slots: Semaphore::new(CALLS) }))
    }

    /// Leads to the hands at the other end of `channel`; dropping what is returned ends that, with all that waits for it.
    pub(crate) fn attach(&self, channel: Channel) -> Attached {
        let link = Arc::new(Link { channel, next: AtomicU64::new(0), state: Mutex::new(State::default()) });
        let reader = tokio::spawn(link.clone().read());
        self.0.link.send_replace(Some(link.clone()));
        Attached { work: self.clone(), link, reader }
    }

    /// Has hands do `call`; returns its reply and the descriptors that came with it.
    ///
    /// # Cancel safety
    /// Dropped, the answer is dropped too when it comes, and a process that it names is killed.
    pub(crate) async fn ask(
        &self,
        call: Call,
        fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), WorkError> {
        let (reply, fds, _) = self.call(call, fds).await?;
        Ok((reply, fds))
    }

    /// Starts a process; returns it, and the master of its terminal if it has one.
    ///
    /// # Cancel safety
    /// As [`Work::ask`].
    pub(crate) async fn spawn(
        &self,
        spawn: Spawn,
        fds: Vec<OwnedFd>,
    ) -> Result<(Process, Option<OwnedFd>), WorkError> {
        let wants_master = spawn.terminal.is_some();
        let (_, fds, process) = self.call(Call::Spawn(Box::new(spawn)), fds).await?;
        let process = process.ok_or(WorkError::Nonsense)?;
        let master = fds.into_iter().next();
        if wants_master != master.is_some() || master.as_ref().is_some_and(|fd| !rustix::termios::isatty(fd))
        {
            return Err(WorkError::Nonsense);
        }
        Ok((process, master))
    }

    async fn call(&self, call: Call, fds: Vec<OwnedFd>) -> Result<Answered, WorkError> {
        let _slot = match timeout(PATIENCE, self.0.slots.acquire()).await {
            Ok(Ok(slot)) => slot,
            _ => return Err(WorkError::Busy),
        };
        let mut links = self.0.link.subscribe();
        let link = match timeout(PATIENCE, links.wait_for(Option::is_some)).await {
            Ok(Ok(link)) => link.clone().ok_or(WorkError::Gone)?,
            _ => return Err(WorkError::Gone),
        };
        Ok(link.call(call, fds).await??)
    }
}

/// Keeps a [`Work`] led to one hands.
pub(crate) struct Attached {
    work: Work,
    link: Arc<Link>,
    reader: tokio::task::JoinHandle<()>,
}

impl Attached {
    /// Waits until hands says nothing more on the channel.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn ended(&mut self) {
        // Not asked again once it has told.
        if !self.reader.is_finished() {
            let _ = (&mut self.reader).await;
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.reader.abort();
        self.link.close();
        self.work.0.link.send_if_modified(|link| {
            let is_ours = link.as_ref().is_some_and(|link| Arc::ptr_eq(link, &self.link));
            is_ours && link.take().is_some()
        });
    }
}

impl Link {
    async fn call(self: &Arc<Self>, call: Call, fds: Vec<OwnedFd>) -> Result<Answer, WorkError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.is_closed {
                return Err(WorkError::Gone);
            }
            state.waiting.insert(id, sender);
        }
        let waiting = Waiting { link: self, id };
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match self.channel.send(&Ask { id, call }, &borrowed).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(Failure::new(FailureKind::Invalid, "the request is too long").into());
            }
            Err(_) => return Err(WorkError::Gone),
        }
        // The other side must see the end of a pipe when it closes its own.
        drop(borrowed);
        drop(fds);
        let answer = receiver.await.map_err(|_| WorkError::Gone);
        drop(waiting);
        answer
    }

    async fn read(self: Arc<Self>) {
        while let Ok(Some((said, fds))) = self.channel.recv_with_fds::<Said>().await {
            match said {
                Said::Answer { id, result } => self.answered(id, result, fds),
                Said::Ended { child, end } => {
                    if let Some(sender) = self.lock().children.remove(&child) {
                        sender.send_replace(Some(end));
                    }
                }
            }
        }
        self.close();
    }

    fn answered(self: &Arc<Self>, id: u64, result: Result<Reply, Failure>, fds: Vec<OwnedFd>) {
        let mut state = self.lock();
        let asker = state.waiting.remove(&id);
        let child = match &result {
            Ok(Reply::Child(child)) => Some(*child),
            _ => None,
        };
        let process = child.map(|child| {
            let (sender, end) = watch::channel(None);
            state.children.insert(child, sender);
            Process { link: Some(self.clone()), child, end }
        });
        drop(state);
        let answer = result.map(|reply| (reply, fds, process));
        if let Some(asker) = asker {
            // Unheard, it is dropped.
            let _ = asker.send(answer);
        }
    }

    /// Has a child killed by and by.
    fn kill_tree(self: Arc<Self>, child: u32) {
        tokio::spawn(async move { self.call(Call::KillTree { child }, Vec::new()).await.map(drop) });
    }

    /// Nobody will answer any more, and every child is gone.
    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waiting.clear();
        state.children.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a call that nobody waits for any more.
struct Waiting<'l> {
    link: &'l Arc<Link>,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.link.lock().waiting.remove(&self.id);
    }
}

/// A process of the tenant's; dropped, it is killed with everything that it started.
pub(crate) struct Process {
    /// `None` once its tree is not ours to kill.
    link: Option<Arc<Link>>,
    child: u32,
    end: watch::Receiver<Option<End>>,
}

impl Process {
    /// Waits for its end; `None` where hands ended, and it with that.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait(&mut self) -> Option<End> {
        let end = self.end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        // What it left behind as a daemon may stay.
        self.link = None;
        end
    }

    /// Sends a signal to its process group, or to the one in the foreground of its terminal.
    pub(crate) async fn signal(&self, signal: i32) -> Result<(), WorkError> {
        self.call(Call::Signal { child: self.child, signal }).await
    }

    /// Kills it with everything that it started, and waits until hands has.
    pub(crate) async fn kill_tree(&self) -> Result<(), WorkError> {
        self.call(Call::KillTree { child: self.child }).await
    }

    async fn call(&self, call: Call) -> Result<(), WorkError> {
        let Some(link) = &self.link else { return Ok(()) };
        link.call(call, Vec::new()).await?.map(drop).map_err(WorkError::Failed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.kill_tree(self.child);
        }
    }
}

#[cfg(test)]
impl Work {
    /// Keeps hands as busy as it may be.
    pub(crate) async fn fill(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.0.slots.acquire_many(CALLS as u32).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Instant};

    use super::*;
    use crate::{hands::testing::TestHands, wire::work::Size};

    fn command(script: &str) -> Spawn {
        Spawn { argv: vec!["sh".into(), "-c".into(), script.into()], ..Spawn::default() }
    }

    /// Three descriptors for a process, and what is read from its output.
    fn pipes() -> (Vec<OwnedFd>, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        (vec![null.into(), writer.try_clone().unwrap().into(), writer.into()], reader)
    }

    fn is_alive(pid: &str) -> bool {
        std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()
    }

    async fn gone(pid: &str) {
        let began = Instant::now();
        while is_alive(pid) {
            assert!(began.elapsed() < Duration::from_secs(10), "{pid} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn runs_a_process_and_tells_how_it_ended() {
        let hands = TestHands::start();
        let (fds, mut output) = pipes();
        let (mut process, _) = hands.work.spawn(command("pwd; echo $HOME; exit 7"), fds).await.unwrap();
        assert_eq!(process.wait().await, Some(End { code: Some(7), signal: None }));
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let dir = hands.dir.path().display();
        assert_eq!(text, format!("{dir}/workspace\n{dir}/home\n"));
        let (fds, _output) = pipes();
        let (mut process, _) = hands.work.spawn(command("kill -TERM $$"), fds).await.unwrap();
        assert_eq!(process.wait().await, Some(End { code: None, signal: Some(15) }));
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why() {
        let hands = TestHands::start();
        let (fds, mut output) = pipes();
        let nothing = Spawn { argv: vec!["no-such-program".into()], ..Spawn::default() };
        let (mut process, _) = hands.work.spawn(nothing, fds).await.unwrap();
        assert_eq!(process.wait().await.unwrap().code, Some(127));
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("cannot run no-such-program"), "{text}");
        let nowhere = Spawn { cwd: Some("/no/such/place".into()), ..command("true") };
        let Err(WorkError::Failed(failure)) = hands.work.spawn(nowhere, pipes().0).await else { panic!() };
        assert_eq!(failure.kind, FailureKind::NotFound);
        let long = command(&"x".repeat(MAX_MESSAGE));
        let Err(WorkError::Failed(failure)) = hands.work.spawn(long, pipes().0).await else { panic!() };
        assert_eq!(failure.kind, FailureKind::Invalid);
    }

    #[tokio::test]
    async fn a_dropped_process_goes_with_its_daemons_and_a_finished_one_leaves_them() {
        let hands = TestHands::start();
        let daemon = "setsid sh -c 'echo $$; exec sleep 1000' & ";
        for is_dropped in [true, false] {
            let (fds, mut output) = pipes();
            let script = format!("{daemon} {}", if is_dropped { "exec sleep 1000" } else { "sleep 0.1" });
            let (mut process, _) = hands.work.spawn(command(&script), fds).await.unwrap();
            let mut pid = [0; 16];
            let length = output.read(&mut pid).unwrap();
            let pid = std::str::from_utf8(&pid[..length]).unwrap().to_owned();
            if is_dropped {
                drop(process);
                gone(&pid).await;
            } else {
                assert_eq!(process.wait().await.unwrap().code, Some(0));
                assert!(is_alive(&pid));
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid.trim().parse().unwrap()),
                    nix::sys::signal::Signal::SIGKILL,
                )
                .unwrap();
                gone(&pid).await;
            }
        }
    }

    #[tokio::test]
    async fn what_a_tree_starts_while_it_is_killed_goes_too() {
        let hands = TestHands::start();
        let mark = format!("{}.25", 100_000 + std::process::id());
        let count = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            processes
                .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
                .filter(|line| *line == format!("sleep\0{mark}\0").into_bytes())
                .count()
        };
        let script = format!("while :; do setsid sleep {mark} & sleep 0.001; done");
        let (process, _) = hands.work.spawn(command(&script), pipes().0).await.unwrap();
        let began = Instant::now();
        while count() < 20 {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.kill_tree().await.unwrap();
        assert_eq!(count(), 0);
    }

    #[tokio::test]
    async fn a_full_backlog_is_said_at_once() {
        let hands = TestHands::start();
        let path = hands.dir.path().join("full.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let call = || Call::Connect { path: path.to_str().unwrap().into() };
        let mut connected = Vec::new();
        let failure = loop {
            match hands.work.ask(call(), Vec::new()).await {
                Ok((_, fds)) => connected.push(fds),
                Err(WorkError::Failed(failure)) => break failure,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(failure.kind, FailureKind::Limit);
    }

    #[tokio::test]
    async fn a_terminal_is_one_and_takes_signals_in_the_foreground() {
        let hands = TestHands::start();
        let spawn = Spawn {
            terminal: Some(Size { cols: 91, rows: 17 }),
            ..command("trap 'echo caught; exit 3' INT; stty size; while :; do sleep 0.01; done")
        };
        let (mut process, master) = hands.work.spawn(spawn, Vec::new()).await.unwrap();
        let mut master = std::fs::File::from(master.unwrap());
        let mut text = String::new();
        let read = |master: &mut std::fs::File, text: &mut String| {
            let mut bytes = [0; 1024];
            let length = master.read(&mut bytes).unwrap_or(0);
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        };
        while !text.contains("17 91") {
            read(&mut master, &mut text);
        }
        process.signal(2).await.unwrap();
        assert_eq!(process.wait().await.unwrap().code, Some(3));
        while !text.contains("caught") {
            read(&mut master, &mut text);
        }
        process.signal(2).await.unwrap();
    }

    #[tokio::test]
    async fn calls_wait_for_the_next_hands_and_end_with_theirs() {
        let work = Work::new();
        let (ours, theirs) = Channel::pair().unwrap();
        let asked = tokio::spawn({
            let work = work.clone();
            async move { work.ask(Call::Connect { path: "/x".into() }, Vec::new()).await.map(drop) }
        });
        let attached = work.attach(Channel::new(ours).unwrap());
        let theirs = Channel::new(theirs).unwrap();
        assert!(theirs.recv::<Ask>().await.unwrap().is_some());
        drop(attached);
        assert!(matches!(asked.await.unwrap(), Err(WorkError::Gone)));
        tokio::time::pause();
        let late = work.ask(Call::Connect { path: "/x".into() }, Vec::new()).await;
        assert!(matches!(late, Err(WorkError::Gone)));
    }
}
