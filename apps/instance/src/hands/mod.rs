//! Hands: the tenant's side of an instance.
//!
//! Runs as the tenant's user, inside what [`crate::isolation`] made. Starts the OpenClaw gateway when the door says so,
//! tells the door when it ended, and carries bytes between the door's listener and the gateway's loopback port. Opens
//! files and starts processes for the door ([`work`]). It holds no secret that the tenant may not know, and ends with
//! everything below it when the door goes away.

mod config;
mod environment;
pub(crate) mod files;
mod gateway;
mod relay;
pub(crate) mod shepherd;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod work;

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use reef_model::Isolation;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    isolation, process,
    wire::{self, Channel, Start, ToDoor, ToHands},
};

/// How long the end of everything below hands may take.
const KILL_LIMIT: Duration = Duration::from_secs(5);
const FILE_THREADS: usize = 160;
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Runs hands on the channel at standard input, until the door goes away.
pub(crate) fn main() -> anyhow::Result<()> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let (message, fds) = wire::recv_blocking::<ToHands>(channel.as_fd())
        .context("hands is started by the door, not by hand")?
        .context("the door went away")?;
    let ToHands::Start(start) = message else { anyhow::bail!("unexpected first message") };
    // Nothing of the tenant's may read the channel.
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    nix::sys::prctl::set_no_new_privs()?;
    process::adopt_orphans()?;
    process::yield_memory_first();
    if let Some(pids) = start.pids {
        process::limit_processes(pids)?;
    }
    // The door's is for its own files; the tenant's programs expect the usual one.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let program = std::env::current_exe()?;
    if start.isolation == Isolation::Landlock {
        let directory = program.parent().context("this program is in no directory")?;
        let locks = isolation::landlock::openclaw_locks()?;
        let read = [directory, &start.openclaw];
        isolation::landlock::restrict(&read, &[&start.home, &start.workspace, &locks])?;
    }
    // One thread that starts things: a shepherd dies with the thread that started it.
    //
    // File calls have threads beside it, one for each of the door's calls and some to spare. They stay, and the first is
    // made now: where the tenant has used up its processes no new one can be, and a call then waits for one that is there.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .thread_keep_alive(FOREVER)
        .build()?;
    runtime.block_on(runtime.spawn_blocking(|| ()))?;
    let result = runtime.block_on(Hands::new(channel, *start, fds, program)?.run());
    process::kill_descendants(KILL_LIMIT);
    result
}

struct Hands {
    channel: OwnedFd,
    start: Start,
    program: PathBuf,
    door_listener: UnixListener,
    work: OwnedFd,
    model_listener: TcpListener,
    egress_listener: Option<TcpListener>,
}

impl Hands {
    fn new(channel: OwnedFd, start: Start, fds: Vec<OwnedFd>, program: PathBuf) -> anyhow::Result<Self> {
        let mut fds = fds.into_iter();
        let door_listener = UnixListener::from(fds.next().context("no listener came")?);
        let work = fds.next().context("no work channel came")?;
        let loopback = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let egress_listener = start.has_egress.then(loopback).transpose()?;
        Ok(Self {
            channel,
            start,
            program,
            door_listener,
            work,
            model_listener: loopback()?,
            egress_listener,
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let channel = Channel::new(self.channel)?;
        let ports = environment::Ports {
            model: self.model_listener.local_addr()?.port(),
            egress: self
                .egress_listener
                .as_ref()
                .map(TcpListener::local_addr)
                .transpose()?
                .map(|at| at.port()),
        };
        let mut listeners = vec![self.model_listener.as_fd()];
        listeners.extend(self.egress_listener.as_ref().map(AsFd::as_fd));
        channel.send(&ToDoor::Hello, &listeners).await?;
        drop((self.model_listener, self.egress_listener));

        let relay = relay::Relay::start(self.door_listener)?;
        let environment = Arc::new(environment::Environment {
            start: self.start,
            ports,
            program: self.program,
            path: environment::SYSTEM_PATH,
        });
        let mut gateway = gateway::Gateway::new(environment.clone());
        let mut work = work::Work::new(Channel::new(self.work)?, environment);
        loop {
            tokio::select! {
                message = channel.recv::<ToHands>() => match message? {
                    None => return Ok(()),
                    Some(ToHands::Start(_)) => anyhow::bail!("started twice"),
                    Some(ToHands::RunGateway) => match gateway.spawn() {
                        Ok(port) => relay.set_port(port),
                        Err(error) => {
                            let reason = format!("{error:#}");
                            channel.send(&ToDoor::NotStarted { reason }, &[]).await?;
                        }
                    },
                    Some(ToHands::StopGateway { grace_ms }) => gateway.stop(Duration::from_millis(grace_ms)),
                },
                asked = work.recv() => match asked? {
                    None => return Ok(()),
                    Some((ask, fds)) => work.take(ask, fds).await?,
                },
                () = gateway.overdue() => gateway.kill(),
                _ = terminate.recv() => return Ok(()),
                _ = children.recv() => {
                    let mut ended = Vec::new();
                    process::reap(|pid, end| ended.push((pid, end)));
                    for (pid, end) in ended {
                        if gateway.is(pid) {
                            gateway.ended();
                            channel.send(&ToDoor::Exited { code: end.status() }, &[]).await?;
                        } else {
                            work.ended(pid, end).await?;
                        }
                    }
                }
            }
        }
    }
}

/// Makes `dir` if it is missing.
fn ensure_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
