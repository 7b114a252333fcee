//! The OpenClaw gateway as a child process: its configuration, environment and end.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reef_model::Isolation;
use tokio::time::Instant;

use super::config;
use crate::wire::Start;

/// Loopback ports that the gateway's configuration and environment name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The model relay.
    pub(crate) model: u16,
    /// The way out, where it is the door's proxy.
    pub(crate) egress: Option<u16>,
}

/// The gateway, running or not.
pub(crate) struct Gateway {
    start: Start,
    ports: Ports,
    program: PathBuf,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    /// When a stop turns into force.
    deadline: Option<Instant>,
}

impl Gateway {
    pub(crate) fn new(start: Start, ports: Ports, program: PathBuf) -> Self {
        Self { start, ports, program, running: None }
    }

    /// Asserts the platform's configuration and starts the gateway; returns its port.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<u16> {
        anyhow::ensure!(self.running.is_none(), "the gateway runs already");
        // Free now, and nobody else picks ports here; where loopback is shared and it is taken after all, the gateway
        // ends and the next start takes another.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let state = self.start.home.join(".openclaw");
        super::ensure_dir(&state)?;
        super::ensure_dir(&self.start.workspace)?;
        super::ensure_dir(&self.temporary())?;
        config::assert_file(
            &state.join("openclaw.json"),
            &config::Platform {
                gateway_port: port,
                model_url: format!("http://127.0.0.1:{}/v1", self.ports.model),
                model_token: self.start.model_token.clone(),
                workspace: self.start.workspace.clone(),
            },
        )?;
        let node = self.start.openclaw.join("node/node");
        let openclaw = self.start.openclaw.join("node_modules/openclaw/openclaw.mjs");
        for file in [&node, &openclaw] {
            anyhow::ensure!(file.exists(), "{} is missing: OpenClaw is not installed", file.display());
        }
        let child = Command::new(&self.program)
            .args(["leash".as_ref(), "--".as_ref(), node.as_os_str(), openclaw.as_os_str()])
            .args(["gateway", "run"])
            .env_clear()
            .envs(self.environment())
            .current_dir(&self.start.workspace)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .spawn()
            .context("cannot start the gateway")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a pid fits")?);
        self.running = Some(Running { pid, deadline: None });
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

    /// Ends it by force.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = kill(running.pid, Signal::SIGKILL);
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

    /// Where `/tmp` is out of reach.
    fn temporary(&self) -> PathBuf {
        self.start.home.join(".cache/tmp")
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let start = &self.start;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let state = start.home.join(".openclaw");
        let node = text(start.openclaw.join("node"));
        let bin = text(start.openclaw.join("node_modules/.bin"));
        let mut env: BTreeMap<String, String> = start.env.clone();
        env.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        env.extend(start.trust_env.clone());
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set("PATH", format!("{node}:{bin}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"));
        set("HOME", text(start.home.clone()));
        set("USER", "claw".into());
        set("LOGNAME", "claw".into());
        set("SHELL", "/bin/bash".into());
        set("LANG", "C.UTF-8".into());
        set("OPENCLAW_STATE_DIR", text(state.clone()));
        set("OPENCLAW_CONFIG_PATH", text(state.join("openclaw.json")));
        set("OPENCLAW_GATEWAY_TOKEN", start.gateway_token.clone());
        set("OPENCLAW_NO_RESPAWN", "1".into());
        set("OPENCLAW_DISABLE_BONJOUR", "1".into());
        set("OPENCLAW_NO_AUTO_UPDATE", "1".into());
        if start.isolation == Isolation::Landlock {
            set("TMPDIR", text(self.temporary()));
        }
        if let Some(port) = self.ports.egress {
            let proxy = format!("http://127.0.0.1:{port}");
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                set(name, proxy.clone());
            }
            for name in ["NO_PROXY", "no_proxy"] {
                set(name, "127.0.0.1,localhost,::1".into());
            }
            set("NODE_USE_ENV_PROXY", "1".into());
        }
        env
    }
}
