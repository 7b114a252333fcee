//! What the door asks for on the work channel: files, processes, terminals, sockets.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::{
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcgetpgrp, tcsetwinsize},
};

use super::{environment::Environment, files::Files, shepherd};
use crate::{
    process,
    wire::{
        Channel,
        work::{Ask, Call, End, Failure, FailureKind, Reply, Said, Size, Spawn},
    },
};

/// How long a shepherd may take to end its tree: longer than it gives itself.
const KILL_LIMIT: Duration = Duration::from_secs(6);
const KILL_POLL: Duration = Duration::from_millis(2);

/// Hands' side of the work channel.
pub(crate) struct Work {
    channel: Arc<Channel>,
    environment: Arc<Environment>,
    files: Arc<Files>,
    children: Children,
    next_child: u32,
}

/// What the door may still name. Shared with the tasks that kill trees.
type Children = Arc<Mutex<HashMap<u32, Child>>>;

struct Child {
    /// Of its shepherd.
    pid: Pid,
    /// Of its terminal, to find who is in the foreground.
    master: Option<OwnedFd>,
}

impl Work {
    pub(crate) fn new(channel: Channel, environment: Arc<Environment>) -> Self {
        let files = Arc::new(Files::new(&environment.start.home, &environment.start.workspace));
        Self { channel: Arc::new(channel), environment, files, children: Children::default(), next_child: 0 }
    }

    /// Receives the next call; `None`: the door went away.
    ///
    /// # Cancel safety
    /// As [`Channel::recv_with_fds`].
    pub(crate) async fn recv(&self) -> io::Result<Option<(Ask, Vec<OwnedFd>)>> {
        self.channel.recv_with_fds().await
    }

    /// Does what was asked, in the background where it may take a while.
    ///
    /// # Errors
    /// Where the door cannot be answered any more.
    pub(crate) async fn take(&mut self, Ask { id, call }: Ask, fds: Vec<OwnedFd>) -> io::Result<()> {
        let channel = self.channel.clone();
        match call {
            // Answered here, so that the answer is before the news of its end.
            Call::Spawn(spawn) => {
                let result = self.spawn(*spawn, fds);
                let (result, fd) = split(result);
                answer(&channel, id, result, fd).await?;
            }
            Call::Signal { child, signal } => {
                answer(&channel, id, self.signal(child, signal), None).await?;
            }
            Call::KillTree { child } => {
                let children = self.children.clone();
                tokio::spawn(async move {
                    kill_tree(&children, child).await;
                    answer(&channel, id, Ok(Reply::Done), None).await
                });
            }
            Call::Files(call) => {
                if let Some((reply, file)) = self.files.open_at_once(&call) {
                    return answer(&channel, id, Ok(Reply::Files(reply)), Some(file)).await;
                }
                let files = self.files.clone();
                tokio::spawn(async move {
                    let fd = fds.into_iter().next();
                    let done = tokio::task::spawn_blocking(move || files.handle(call, fd)).await;
                    let done =
                        done.unwrap_or_else(|error| Err(Failure::new(FailureKind::Io, error.to_string())));
                    let (result, fd) = split(done.map(|(reply, fd)| (Reply::Files(reply), fd)));
                    answer(&channel, id, result, fd).await
                });
            }
            Call::Connect { path } => {
                let result = connect(&path).map(|fd| (Reply::Done, Some(fd)));
                let (result, fd) = split(result);
                answer(&channel, id, result, fd).await?;
            }
        }
        Ok(())
    }

    /// Notes that a process ended, and tells the door if it was one of its children.
    pub(crate) async fn ended(&mut self, pid: Pid, end: End) -> io::Result<()> {
        let ended = {
            let mut children = lock(&self.children);
            let child = children.iter().find(|(_, child)| child.pid == pid).map(|(number, _)| *number);
            child.inspect(|number| drop(children.remove(number)))
        };
        match ended {
            Some(child) => self.channel.send(&Said::Ended { child, end }, &[]).await,
            // What a command left behind.
            None => Ok(()),
        }
    }

    fn spawn(&mut self, spawn: Spawn, fds: Vec<OwnedFd>) -> Result<(Reply, Option<OwnedFd>), Failure> {
        let cwd = self.environment.directory(spawn.cwd.as_deref().unwrap_or("."));
        if !cwd.is_dir() {
            let message = format!("the working directory {} does not exist", cwd.display());
            return Err(Failure::new(FailureKind::NotFound, message));
        }
        let (flags, stdio, master): (&[&str], _, _) = match spawn.terminal {
            Some(size) => {
                let (master, slave) = open_terminal(size)?;
                (&["--terminal"], [slave.try_clone()?, slave.try_clone()?, slave], Some(master))
            }
            None => {
                let stdio = <[OwnedFd; 3]>::try_from(fds)
                    .map_err(|_| Failure::new(FailureKind::Invalid, "a process wants three descriptors"))?;
                (&[], stdio, None)
            }
        };
        // Before the start: what fails after it would leave a child that nobody knows.
        let kept = master.as_ref().map(OwnedFd::try_clone).transpose()?;
        let [stdin, stdout, stderr] = stdio.map(Stdio::from);
        let started = self
            .environment
            .shepherd(flags, &spawn.argv)
            .envs(&spawn.env)
            .current_dir(cwd)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let pid = match started {
            Ok(child) => Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)),
            Err(error) => {
                let failure = Failure::from(error);
                return Err(match failure.kind {
                    FailureKind::Limit => Failure::new(
                        FailureKind::Limit,
                        "the instance has no room for another process: end some, or restart it",
                    ),
                    _ => failure,
                });
            }
        };
        self.next_child = self.next_child.wrapping_add(1);
        lock(&self.children).insert(self.next_child, Child { pid, master: kept });
        Ok((Reply::Child(self.next_child), master))
    }

    fn signal(&self, child: u32, signal: i32) -> Result<Reply, Failure> {
        let signal = Signal::try_from(signal).map_err(|error| Failure::from(io::Error::from(error)))?;
        let children = lock(&self.children);
        let Some(child) = children.get(&child) else {
            return Err(Failure::new(FailureKind::NotFound, "it has ended"));
        };
        match &child.master {
            Some(master) => {
                let group = tcgetpgrp(master).map_err(io::Error::from)?;
                killpg(Pid::from_raw(group.as_raw_nonzero().get()), signal).map_err(io::Error::from)?;
            }
            // Its shepherd passes it on.
            None => kill(child.pid, signal).map_err(io::Error::from)?,
        }
        Ok(Reply::Done)
    }
}

/// Has the child's shepherd kill everything below it and itself; by force where it does not.
///
/// From here it could only be killed once its command had ended by that, and what the tree forks until then would be out
/// from under it.
async fn kill_tree(children: &Children, child: u32) {
    let deadline = tokio::time::Instant::now() + KILL_LIMIT;
    let mut is_told = false;
    loop {
        {
            // Under the lock and on the thread that reaps: the pid is still the shepherd's.
            let children = lock(children);
            let Some(child) = children.get(&child) else { return };
            if !is_told {
                is_told = true;
                let _ = kill(child.pid, shepherd::WHOLE);
            } else if tokio::time::Instant::now() > deadline {
                process::kill_by_force(child.pid);
                return;
            }
        }
        tokio::time::sleep(KILL_POLL).await;
    }
}

fn open_terminal(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(&master, Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, slave))
}

/// Connects at once or not at all: this thread does everything else too, and a full backlog would hold it up.
fn connect(path: &str) -> Result<OwnedFd, Failure> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    net::connect(&socket, &address).map_err(io::Error::from)?;
    Ok(socket)
}

fn split(result: Result<(Reply, Option<OwnedFd>), Failure>) -> (Result<Reply, Failure>, Option<OwnedFd>) {
    match result {
        Ok((reply, fd)) => (Ok(reply), fd),
        Err(failure) => (Err(failure), None),
    }
}

async fn answer(
    channel: &Channel,
    id: u64,
    result: Result<Reply, Failure>,
    fd: Option<OwnedFd>,
) -> io::Result<()> {
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    match channel.send(&Said::Answer { id, result }, &fds).await {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let result = Err(Failure::new(FailureKind::Io, "the answer is too long"));
            channel.send(&Said::Answer { id, result }, &[]).await
        }
        sent => sent,
    }
}

fn lock(children: &Children) -> std::sync::MutexGuard<'_, HashMap<u32, Child>> {
    children.lock().unwrap_or_else(PoisonError::into_inner)
}
