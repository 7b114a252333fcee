//! Starting and ending a door.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use reef_door::RunDir;
use reef_model::{Clock, SystemClock, Timestamp};
use reef_runtime::{InstanceSpec, door::arguments, files::write_boot};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::{
    Sandbox,
    home::{End, Locked, Run},
    proc::{self, Process},
};

/// What a door inherits of our environment, certificates to trust among it; the rest, our secrets too, is none of its
/// business.
const ENV_KEPT: &[&str] = &[
    "PATH",
    "LANG",
    "TZ",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
];

impl Locked {
    /// Starts a door, in a session of its own so that it outlives us. Nothing of the instance may run.
    ///
    /// A crash at any instruction leaves no door that is not recorded: what is spawned is a shell that becomes the
    /// door, keeping pid and start time, only when told to after the record is on disk; without us it ends.
    pub(crate) fn start(&mut self, sandbox: &Sandbox, spec: &InstanceSpec) -> io::Result<Child> {
        const BECOME_DOOR: &str = r#"read -r go && exec "$@" </dev/null"#;
        let run_dir = RunDir::new(self.path.join("run"));
        write_boot(&run_dir, spec)?;
        if let Err(error) = fs::remove_file(run_dir.door_socket())
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // The door keeps it small.
        let log =
            OpenOptions::new().append(true).create(true).mode(0o600).open(self.path.join("door.log"))?;
        let mut command = Command::new("setsid");
        command.args(["/bin/sh", "-c", BECOME_DOOR, "reef-door"]);
        command.arg(&sandbox.instance_bin).arg("door");
        command.arg("--run-dir").arg(run_dir.path());
        for (flag, dir) in [("--state-dir", "state"), ("--home", "home"), ("--workspace", "workspace")] {
            command.arg(flag).arg(self.path.join(dir));
        }
        command.arg("--openclaw").arg(&sandbox.openclaw_dir);
        command.args(["--isolation", sandbox.isolation.as_str()]);
        for (flag, value) in arguments(sandbox.terminal_idle) {
            command.args([flag, &value]);
        }
        if sandbox.share_network {
            command.arg("--share-network");
        }
        if let Some(uid) = self.record.uid {
            let uid = uid.to_string();
            command.args(["--hands-uid", &uid, "--hands-gid", &uid]);
        }
        command.env_clear().envs(ENV_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.current_dir(&self.path);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let gate = child.stdin.take().map(|stdin| stdin.into_owned_fd()).transpose()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
        self.record.run = Some(Run {
            process: Process::of(pid)?,
            generation: spec.generation,
            // The record has milliseconds; what is returned now must equal what is read later.
            started_at: Timestamp::from_unix_micros(SystemClock.now().unix_millis() * 1_000),
            end: None,
        });
        self.write_record()?;
        if let Some(groups) = &sandbox.groups {
            groups.enter(self.id, &spec.limits, pid)?;
        }
        if let Some(gate) = gate {
            fs::File::from(gate).write_all(b"\n")?;
        }
        Ok(child)
    }

    /// Ends what runs: gracefully for at most `grace`, then by force. `Ok(false)`: the door did not run.
    pub(crate) async fn halt(&mut self, grace: Duration) -> io::Result<bool> {
        let uid = self.record.uid;
        let running = self.record.run.as_mut().and_then(|run| Some((run.process.open()?, run)));
        let Some((pidfd, run)) = running else {
            // Hands of a door that crashed.
            if uid.is_some() {
                blocking(move || proc::kill_tree(None, uid)).await?;
            }
            return Ok(false);
        };
        run.end = Some(End::Stopped);
        let process = run.process.clone();
        self.write_record()?;
        if !grace.is_zero() {
            proc::signal(&pidfd, Signal::TERM)?;
            if let Ok(ended) = tokio::time::timeout(grace, proc::ended(pidfd)).await {
                ended?;
            }
        }
        blocking(move || proc::kill_tree(Some(&process), uid)).await?;
        Ok(true)
    }

    /// Remembers how a run ended, unless that is known or another has begun.
    pub(crate) fn record_end(&mut self, process: &Process, status: ExitStatus) -> io::Result<()> {
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        match &mut self.record.run {
            Some(run) if run.process == *process && run.end.is_none() => run.end = Some(End::Exited(code)),
            _ => return Ok(()),
        }
        self.write_record()
    }
}

/// Runs what blocks off the async threads. A caller that is dropped leaves it running to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
