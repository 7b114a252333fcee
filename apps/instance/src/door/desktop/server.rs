//! The X server and its window manager: started by the first use, started again when they end.
//!
//! They stay until the instance stops, however long nobody looks: the programs on a desktop end with its X server, and
//! one that nobody uses costs some 30 MiB and no time.

use std::{fs::File, io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use reef_door::desktop::DesktopState;
use reef_model::{Clock, Isolation};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::socket::Socket;
use crate::{
    door::{
        backoff::Backoff,
        logs::LogRing,
        work::{Process, Work, WorkError},
    },
    wire::work::{Call, End, Spawn},
};

/// How long the X server may take until clients can connect; 0.5 s were seen on two idle cores.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a request waits for a desktop.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a finding that something is missing is believed.
const PROBE_TTL: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// Between the end of a window manager and the next.
const MANAGER_PAUSE: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(100);
const REASON_LINES: usize = 3;
/// More than the number of a display has.
const DISPLAY_BYTES: u64 = 16;
/// The script's status where a program is missing.
const EXIT_MISSING: i32 = 127;

/// What is run, and what it calls itself.
const SCRIPT: &[&str] = &["/bin/sh", "-c", include_str!("start.sh"), "desktop"];
/// In the home. Relative, since an address of a unix socket is short (unix(7)).
const SOCKET: &str = ".cache/reef/vnc.sock";
const ARGUMENTS: &[&str] = &[
    "-displayfd",
    "1",
    "-geometry",
    "1280x800",
    "-depth",
    "24",
    "-desktop",
    "Reef",
    "-SecurityTypes",
    "None",
    "-AlwaysShared",
    "-nolisten",
    "tcp",
    // Of abstract sockets there is one name space per network, which instances may share.
    "-nolisten",
    "local",
    "-rfbport",
    "-1",
    "-rfbunixpath",
    SOCKET,
    "-rfbunixmode",
    "0600",
];
const MANAGER: &[&str] = &["openbox"];
/// With the first window manager comes a terminal, so that there is something to see and to use.
const FIRST_MANAGER: &[&str] =
    &["openbox", "--startup", "xterm -geometry 100x30+60+50 -fa Monospace -fs 11 -title Terminal"];

const NOT_INSTALLED: &str = "the desktop is not installed where this instance runs: apt-get install --no-install-recommends \
    tigervnc-standalone-server openbox xterm fonts-dejavu-core";
const NO_TMP: &str = "the desktop needs a /tmp of its own, which the sandbox of this machine (landlock) cannot give: \
    install bubblewrap where user namespaces are allowed, or run instances in containers";

/// How the desktop stands.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    pub(super) state: DesktopState,
    /// Why it does not run; of a start, why the last run ended.
    pub(super) reason: Option<String>,
    /// Counts starts, also those that fail.
    pub(super) start: u64,
}

/// There is no desktop.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDesktop {
    /// It cannot run here.
    #[error("{0}")]
    Unavailable(String),
    /// It may be there in a moment; with the reason of its last end.
    #[error("the desktop did not start in time")]
    Late(Option<String>),
    /// Hands did not connect.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// What hands sent is no socket.
    #[error("the connection to the desktop cannot be used")]
    Io(#[from] io::Error),
}

/// Why a start came to nothing, or a run to its end.
enum Ended {
    /// It cannot run here.
    Missing(String),
    /// It may the next time.
    Failed(String),
}

/// A running X server.
struct Running {
    server: Process,
    /// What it says.
    logs: Arc<LogRing>,
}

/// The desktop's processes, kept up by [`Server::run`].
pub(super) struct Server {
    work: Work,
    isolation: Isolation,
    home: PathBuf,
    clock: Arc<dyn Clock>,
    wish: Notify,
    stand: watch::Sender<Stand>,
    /// What is missing for it, as it was found at that moment.
    probed: Mutex<Option<(Instant, Option<String>)>>,
}

impl Server {
    /// Returns one that is not started; `home` is as hands sees it.
    pub(super) fn new(work: Work, isolation: Isolation, home: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let stand = Stand { state: DesktopState::Stopped, reason: None, start: 0 };
        Self {
            work,
            isolation,
            home,
            clock,
            wish: Notify::new(),
            stand: watch::Sender::new(stand),
            probed: Mutex::default(),
        }
    }

    /// Returns how it stands; where it does not run, whether it could is looked for.
    pub(super) async fn stand(&self) -> Stand {
        let stand = self.stand.borrow().clone();
        if matches!(stand.state, DesktopState::Starting | DesktopState::Running) {
            return stand;
        }
        match self.missing().await {
            Some(missing) => Stand { state: DesktopState::Unavailable, reason: Some(missing), ..stand },
            None => Stand { state: DesktopState::Stopped, reason: None, ..stand },
        }
    }

    /// Waits until it runs, and starts it if it does not; returns its number.
    ///
    /// # Cancel safety
    /// Safe; the start goes on.
    pub(super) async fn ensure_running(&self) -> Result<u64, NoDesktop> {
        let mut stands = self.stand.subscribe();
        let before = stands.borrow().start;
        self.wish.notify_one();
        let settled = stands.wait_for(|stand| match stand.state {
            DesktopState::Running => true,
            // An earlier finding may be out of date.
            DesktopState::Unavailable => stand.start > before,
            DesktopState::Stopped | DesktopState::Starting => false,
        });
        let stand = match timeout(PATIENCE, settled).await {
            Ok(Ok(stand)) => stand.clone(),
            _ => return Err(NoDesktop::Late(self.stand.borrow().reason.clone())),
        };
        match stand.state {
            DesktopState::Running => Ok(stand.start),
            _ => Err(NoDesktop::Unavailable(stand.reason.unwrap_or_default())),
        }
    }

    /// Connects to the desktop, which must run.
    pub(super) async fn connect(&self) -> Result<Socket, NoDesktop> {
        let path = self.home.join(SOCKET).to_string_lossy().into_owned();
        let (_, fds) = self.work.ask(Call::Connect { path }, Vec::new()).await?;
        let fd = fds.into_iter().next().ok_or(WorkError::Nonsense)?;
        Ok(Socket::new(fd)?)
    }

    /// Keeps the desktop up from the first wish on; never returns.
    pub(super) async fn run(&self) {
        let mut backoff = Backoff::default();
        self.wish.notified().await;
        loop {
            self.stand.send_modify(|stand| {
                stand.start += 1;
                stand.state = DesktopState::Starting;
            });
            let mut since = None;
            let ended = match self.start().await {
                Ok(running) => {
                    since = Some(Instant::now());
                    self.set(DesktopState::Running, None);
                    self.watch(running).await
                }
                Err(ended) => ended,
            };
            match ended {
                Ended::Missing(reason) => {
                    self.set(DesktopState::Unavailable, Some(reason));
                    self.wish.notified().await;
                }
                Ended::Failed(reason) => {
                    let wait = backoff.ended(since);
                    tracing::warn!(reason, wait_ms = wait.as_millis() as u64, "the desktop is started again");
                    self.set(DesktopState::Starting, Some(reason));
                    sleep(wait).await;
                }
            }
        }
    }

    /// Starts the X server and waits until it takes clients.
    async fn start(&self) -> Result<Running, Ended> {
        if self.isolation == Isolation::Landlock {
            return Err(Ended::Missing(NO_TMP.to_owned()));
        }
        let (ready, stdout) = pipe().map_err(failed)?;
        let (errors, stderr) = pipe().map_err(failed)?;
        let fds = vec![null().map_err(failed)?, stdout, stderr];
        let logs = Arc::new(LogRing::new(self.clock.clone()));
        tokio::spawn({
            let logs = logs.clone();
            async move { logs.follow(BufReader::new(errors)).await }
        });
        let spawn = Spawn { cwd: self.in_home(), ..command(SCRIPT, ARGUMENTS) };
        let (server, _) = self.work.spawn(spawn, fds).await.map_err(failed)?;
        let mut running = Running { server, logs };
        let mut display = String::new();
        let mut ready = BufReader::new(ready.take(DISPLAY_BYTES));
        match timeout(START_LIMIT, ready.read_line(&mut display)).await {
            Ok(Ok(count)) if count > 0 => Ok(running),
            // Its output ends with it.
            Ok(_) => Err(running.ended().await),
            Err(_) => Err(Ended::Failed(format!("it did not start within {} s", START_LIMIT.as_secs()))),
        }
    }

    /// Keeps a window manager on it, until it ends.
    async fn watch(&self, mut running: Running) -> Ended {
        let mut manager = self.manager(FIRST_MANAGER).await;
        loop {
            let gone = async {
                if let Some(manager) = &mut manager {
                    manager.wait().await;
                }
                sleep(MANAGER_PAUSE).await;
            };
            tokio::select! {
                ended = running.ended() => return ended,
                () = gone => manager = self.manager(MANAGER).await,
            }
        }
    }

    async fn manager(&self, argv: &[&str]) -> Option<Process> {
        let fds = [null(), null(), null()].into_iter().collect::<io::Result<_>>().ok()?;
        let (process, _) = self.work.spawn(command(argv, &[]), fds).await.ok()?;
        Some(process)
    }

    /// Returns what is missing for a desktop, if that is known.
    async fn missing(&self) -> Option<String> {
        if self.isolation == Isolation::Landlock {
            return Some(NO_TMP.to_owned());
        }
        let mut probed = self.probed.lock().await;
        if let Some((at, missing)) = &*probed
            && at.elapsed() < PROBE_TTL
        {
            return missing.clone();
        }
        let probe = async {
            let fds = [null(), null(), null()].into_iter().collect::<io::Result<_>>().ok()?;
            let spawn = Spawn { cwd: self.in_home(), ..command(SCRIPT, &[]) };
            let (mut process, _) = self.work.spawn(spawn, fds).await.ok()?;
            process.wait().await
        };
        let end = timeout(PROBE_LIMIT, probe).await.ok().flatten()?;
        let missing = (end.code == Some(EXIT_MISSING)).then(|| NOT_INSTALLED.to_owned());
        *probed = Some((Instant::now(), missing.clone()));
        missing
    }

    fn in_home(&self) -> Option<String> {
        Some(self.home.to_string_lossy().into_owned())
    }

    fn set(&self, state: DesktopState, reason: Option<String>) {
        self.stand.send_modify(|stand| {
            stand.state = state;
            stand.reason = reason;
        });
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Cancel safety
    /// Safe.
    async fn ended(&mut self) -> Ended {
        match self.server.wait().await {
            Some(End { code: Some(EXIT_MISSING), .. }) => Ended::Missing(NOT_INSTALLED.to_owned()),
            Some(end) => {
                // What it wrote may still be on its way.
                sleep(LAST_WORDS).await;
                let lines: Vec<String> =
                    self.logs.tail(REASON_LINES).iter().map(|entry| shown(&entry.line)).collect();
                let how = match end {
                    End { signal: Some(signal), .. } => format!("the X server was killed (signal {signal})"),
                    End { code, .. } => {
                        format!("the X server ended with status {}", code.unwrap_or_default())
                    }
                };
                Ended::Failed(format!("{how}; it last said: {}", lines.join(" | ")))
            }
            None => Ended::Failed("the instance's processes ended".to_owned()),
        }
    }
}

fn command(argv: &[&str], arguments: &[&str]) -> Spawn {
    Spawn { argv: argv.iter().chain(arguments).map(|word| (*word).to_owned()).collect(), ..Spawn::default() }
}

/// Makes a pipe: our end, and the one for a process.
fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (sender, receiver) = pipe::pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

fn failed(error: impl std::fmt::Display) -> Ended {
    Ended::Failed(format!("it cannot be started: {error}"))
}

/// A text from the tenant's side, fit for a status line: no control characters, not long.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
