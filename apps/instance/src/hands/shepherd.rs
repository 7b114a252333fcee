//! Stands over one process tree: nothing that the tree starts gets out from under it, not even as a daemon.
//!
//! A process of its own between hands and the command, since only a subreaper (`PR_SET_CHILD_SUBREAPER`, prctl(2)) keeps
//! daemons of one command apart from those of another. It reaps, passes signals on, and ends as its command ended.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::{
        prctl,
        signal::{
            SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction, sigprocmask,
        },
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{process, wire::work::End};

/// How long the end of the rest of a tree may take.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// What is passed on to the command.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Has it kill everything below it, and end as killed. No command expects this one of its shepherd.
pub(crate) const WHOLE: Signal = Signal::SIGALRM;
/// As shells say that a command cannot be run.
const CANNOT_RUN: u8 = 127;

/// `reef-instance shepherd`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Standard input is a terminal: make it the command's controlling one.
    #[arg(long)]
    terminal: bool,
    /// When the command ends, so does everything that it started.
    #[arg(long)]
    whole: bool,
    /// What to run.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Runs the command and ends as it ended.
pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    process::adopt_orphans()?;
    let mut watched: SigSet = PASSED_ON.into_iter().collect();
    watched.add(Signal::SIGCHLD);
    watched.add(WHOLE);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), None)?;

    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    let terminal = args.terminal;
    #[expect(unsafe_code, reason = "between fork and exec: only system calls, no allocation, no lock")]
    unsafe {
        command.pre_exec(move || prepare(terminal));
    }
    let child = match command.spawn() {
        Ok(child) => Pid::from_raw(i32::try_from(child.id()).context("a pid fits")?),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(io::stderr(), "cannot run {}: {error}", args.command[0].display());
            return Ok(ExitCode::from(CANNOT_RUN));
        }
    };
    // Whoever waits for the end of the command's output must not wait for ours.
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;

    loop {
        match watched.wait()? {
            Signal::SIGCHLD => {
                let mut ended = None;
                process::reap(|pid, end| {
                    if pid == child {
                        ended = Some(end);
                    }
                });
                if let Some(end) = ended {
                    if args.whole {
                        process::kill_descendants(KILL_LIMIT);
                    }
                    return Ok(end_as(end));
                }
            }
            WHOLE => {
                process::kill_descendants(KILL_LIMIT);
                return Ok(end_as(End { code: None, signal: Some(Signal::SIGKILL as i32) }));
            }
            signal => {
                let _ = kill(child, signal);
            }
        }
    }
}

/// In the child, before it becomes the command.
fn prepare(terminal: bool) -> io::Result<()> {
    if terminal {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(io::stdin())?;
    } else {
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ends as `end` says: with its status, or by its signal.
fn end_as(end: End) -> ExitCode {
    if let Some(signal) = end.signal.and_then(|number| Signal::try_from(number).ok()) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        #[expect(unsafe_code, reason = "the default action is no code of ours")]
        let _ = unsafe { sigaction(signal, &default) };
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        let _ = raise(signal);
    }
    // Exit statuses have eight bits.
    ExitCode::from(end.code.map_or(u8::MAX, |code| (code & 0xff) as u8))
}
