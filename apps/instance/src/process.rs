//! Processes: what a role does to itself, and how whole trees of them end.

use std::{
    collections::HashMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        stat::{Mode, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::wire::work::End;

/// Makes this process unreadable for others of its user: no core, no ptrace, no `/proc/PID/{mem,environ,fd}`; and
/// what it makes is for its user only. It may have as many descriptors as it is allowed.
pub(crate) fn harden() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(())
}

/// Makes orphans of this process's descendants its own children, so that none gets away.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Has the kernel take this process and what it starts first where memory runs out, and so not the door (proc(5)).
///
/// What cannot be set is left as it is: the limit still holds, only the choice is the kernel's.
pub(crate) fn yield_memory_first() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!(%error, "oom_score_adj stays as it was");
    }
}

/// Bounds the processes and threads of this process's user, in its user namespace, for everything that it starts.
pub(crate) fn limit_processes(count: u32) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NPROC, count.into(), count.into())?)
}

/// Kills every descendant of this process and reaps it; returns when none is left, or after `limit`.
///
/// Only for a moment when no other child is waited for.
pub(crate) fn kill_descendants(limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        for pid in descendants(Pid::this()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        if Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills what is below `root` now, and then `root`: for a shepherd that does not end its tree itself.
pub(crate) fn kill_by_force(root: Pid) {
    for pid in descendants(root) {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let _ = kill(root, Signal::SIGKILL);
}

/// Reaps every child that has ended; calls `ended` with how each one did.
pub(crate) fn reap(mut ended: impl FnMut(Pid, End)) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended(pid, End { code: Some(code), signal: None }),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended(pid, End { code: None, signal: Some(signal as i32) });
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(&entry.path()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw()];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

/// Field 4 of `/proc/PID/stat` (proc(5)); the name before it may hold anything, so count from its last bracket.
fn parent_of(process: &Path) -> Option<i32> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_children_of_children() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let shell_pid = Pid::from_raw(shell.id().try_into().unwrap());
        let mut seen = Vec::new();
        for _ in 0..500 {
            seen = descendants(shell_pid);
            if !seen.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(seen.len(), 1);
        assert!(descendants(Pid::this()).contains(&shell_pid));
        kill(seen[0], Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
    }
}
