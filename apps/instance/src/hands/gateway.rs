//! The OpenClaw gateway as a child process: its configuration, start and end.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use super::{config, environment::Environment, shepherd};
use crate::process;

/// How long the shepherd may take to kill it: longer than it gives itself.
const SHEPHERD_LIMIT: Duration = Duration::from_secs(6);

/// The gateway, running or not.
pub(crate) struct Gateway {
    environment: Arc<Environment>,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    /// When a stop turns into force.
    deadline: Option<Instant>,
    /// Its shepherd was told to kill it.
    is_told: bool,
}

impl Gateway {
    pub(crate) fn new(environment: Arc<Environment>) -> Self {
        Self { environment, running: None }
    }

    /// Asserts the platform's configuration and starts the gateway; returns its port.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<u16> {
        anyhow::ensure!(self.running.is_none(), "the gateway runs already");
        // Free now, and nobody else picks ports here; where loopback is shared and it is taken after all, the gateway
        // ends and the next start takes another.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let start = &self.environment.start;
        let state = start.home.join(".openclaw");
        super::ensure_dir(&state)?;
        super::ensure_dir(&start.workspace)?;
        super::ensure_dir(&self.environment.temporary())?;
        config::assert_file(
            &state.join("openclaw.json"),
            &config::Platform {
                gateway_port: port,
                model_url: format!("http://127.0.0.1:{}/v1", self.environment.ports.model),
                model_token: start.model_token.clone(),
                workspace: start.workspace.clone(),
            },
        )?;
        let node = start.openclaw.join("node/node");
        let openclaw = start.openclaw.join("node_modules/openclaw/openclaw.mjs");
        for file in [&node, &openclaw] {
            anyhow::ensure!(file.exists(), "{} is missing: OpenClaw is not installed", file.display());
        }
        let argv = [node.as_os_str(), openclaw.as_os_str(), "gateway".as_ref(), "run".as_ref()];
        let child = self
            .environment
            .shepherd(&["--whole"], argv)
            .current_dir(&start.workspace)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .spawn()
            .context("cannot start the gateway")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a pid fits")?);
        self.running = Some(Running { pid, deadline: None, is_told: false });
        Ok(port)
    }

    /// Tells whether `pid` is the gateway.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.running.as_ref().is_some_and(|running| running.pid == pid)
    }

    /// Notes that it was reaped.
    pub(crate) fn ended(&mut self) {
        self.running = None;
    }

    /// Asks it to end; [`Gateway::overdue`] says when to use force.
    pub(crate) fn stop(&mut self, grace: Duration) {
        if let Some(running) = &mut self.running {
            let _ = kill(running.pid, Signal::SIGTERM);
            running.deadline = Some(Instant::now() + grace);
        }
    }

    /// Has its shepherd end it by force, with everything that it started; does it itself when asked again.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            if !running.is_told {
                let _ = kill(running.pid, shepherd::WHOLE);
                running.is_told = true;
                running.deadline = Some(Instant::now() + SHEPHERD_LIMIT);
                return;
            }
            process::kill_by_force(running.pid);
            running.deadline = None;
        }
    }

    /// Returns when a stop has taken longer than its grace; never while there is none.
    pub(crate) async fn overdue(&self) {
        match self.running.as_ref().and_then(|running| running.deadline) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}
