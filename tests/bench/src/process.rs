//! What a process uses, from `/proc`.

use std::process::{Child, Command};

/// Ends its process when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Returns the processes with their children.
pub(crate) fn family(pids: &[i32]) -> Vec<i32> {
    let children = pids.iter().flat_map(|pid| {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    });
    pids.iter().copied().chain(children).collect()
}

/// Returns the CPU time in microseconds that the processes have used (proc(5): fields 14 and 15, in ticks).
pub(crate) fn cpu_micros(pids: &[i32]) -> u64 {
    const TICK_MICROS: u64 = 10_000;
    pids.iter()
        .map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks =
                |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
            (ticks(11) + ticks(12)) * TICK_MICROS
        })
        .sum()
}

/// Returns the resident memory of the processes in KiB.
pub(crate) fn resident_kib(pids: &[i32]) -> u64 {
    pids.iter()
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        })
        .sum()
}

/// Puts all threads of the processes on the cores of `list`.
pub(crate) fn pin(pids: &[i32], list: &str) {
    for pid in pids {
        let done = Command::new("taskset").args(["-acp", list, &pid.to_string()]).output().unwrap();
        assert!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr));
    }
}
