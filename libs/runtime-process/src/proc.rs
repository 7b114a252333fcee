//! Processes as `/proc` shows them, named so that a reused pid is never mistaken for an old one.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// One process of one boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks from the boot to the start: field 22 of `/proc/PID/stat` (proc(5)).
    pub(crate) start_time: u64,
    /// Since ticks begin anew with every boot.
    boot_id: String,
}

impl Process {
    /// Names the process that has `pid` now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let Stat { start_time, .. } = Stat::read(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, start_time, boot_id: boot_id()? })
    }

    /// Opens the process, unless it ended; the descriptor stays its own whoever gets the pid next.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Looked at after opening: if this is the process now, it was when the descriptor was made.
        (boot_id().ok()? == self.boot_id && Stat::read(self.pid)?.start_time == self.start_time)
            .then_some(pidfd)
    }

    /// Tells whether the process runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.open().is_some()
    }
}

/// Sends a signal; one that has ended already is no error.
pub(crate) fn signal(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the process has ended.
#[expect(unsafe_code, reason = "tokio wants a promise that the descriptor stays open while it is registered")]
pub(crate) async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` is closed by nobody else, and gives the same descriptor whenever it is asked.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    pidfd.readable().await.map(drop)
}

/// Kills a process with all its descendants, and everything that runs as `uid`.
///
/// Without a uid of its own, a tenant's process that left both the door's session and its ancestry escapes this; the
/// sandbox's pid namespace is what ends it.
pub(crate) fn kill_tree(root: Option<&Process>, uid: Option<u32>) -> io::Result<()> {
    // Forking while we look, a tree may outrun a few passes; with a uid of its own it cannot hide.
    const PASSES: usize = 100;
    let mut family: HashMap<i32, u64> =
        root.filter(|root| root.is_alive()).map(|root| (root.pid, root.start_time)).into_iter().collect();
    for _ in 0..PASSES {
        let all = Stat::read_all()?;
        // A pid of the family that belongs to another process by now is no relative.
        for it in &all {
            if family.get(&it.pid).is_some_and(|start_time| *start_time != it.start_time) {
                family.remove(&it.pid);
            }
        }
        loop {
            let is_relative = |it: &&Stat| {
                !family.contains_key(&it.pid)
                    && (family.contains_key(&it.parent) || family.contains_key(&it.session))
            };
            let found: Vec<_> = all.iter().filter(is_relative).map(|it| (it.pid, it.start_time)).collect();
            if found.is_empty() {
                break;
            }
            family.extend(found);
        }
        let is_victim = |it: &&Stat| family.contains_key(&it.pid) || uid.is_some_and(|uid| it.has_uid(uid));
        let mut is_clear = true;
        for victim in all.iter().filter(is_victim) {
            let Some(pid) = Pid::from_raw(victim.pid) else { continue };
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if Stat::read(victim.pid).is_some_and(|now| now.start_time == victim.start_time) {
                is_clear = false;
                signal(&pidfd, Signal::KILL)?;
            }
        }
        if is_clear {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(io::Error::other("its processes do not end"))
}

/// Returns the uids that any process of the machine has.
pub(crate) fn uids_in_use() -> io::Result<HashSet<u32>> {
    Ok(Stat::read_all()?.iter().flat_map(Stat::uids).collect())
}

/// What is read of `/proc/PID/stat` of a process that has not ended.
struct Stat {
    pid: i32,
    parent: i32,
    session: i32,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `None` for a zombie too: it has ended, only nobody asked yet how.
    fn parse(pid: i32, text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold anything, parentheses included.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let is_over = matches!(*fields.first()?, "Z" | "X");
        (!is_over).then_some(())?;
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    fn read_all() -> io::Result<Vec<Self>> {
        let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Self::read).collect())
    }

    /// The real, effective, saved and file-system uid.
    fn uids(&self) -> Vec<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        line.split_whitespace().filter_map(|uid| uid.parse().ok()).collect()
    }

    fn has_uid(&self, uid: u32) -> bool {
        self.uids().contains(&uid)
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_a_hostile_name() {
        let line = "7 (a) Z 9) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        let stat = Stat::parse(7, line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.session, stat.start_time), (7, 3, 5, 4242));
        assert!(Stat::parse(7, &line.replace(") S", ") Z")).is_none());
        assert!(Stat::parse(7, "").is_none());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Process::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(!Process { start_time: me.start_time + 1, ..me.clone() }.is_alive());
        assert!(!Process { boot_id: "an earlier boot".into(), ..me }.is_alive());
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(child.id() as i32);
        while Stat::read(child.id() as i32).is_some() {
            std::thread::yield_now();
        }
        assert!(process.is_err() || !process.unwrap().is_alive());
        child.wait().unwrap();
    }
}
