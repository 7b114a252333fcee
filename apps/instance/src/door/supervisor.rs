//! Keeps hands and the gateway running.
//!
//! hands is started in its sandbox; in it the gateway, as often as it ends; and hands again when hands ends. The wait
//! between grows while it keeps failing, and never becomes giving up.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rand::RngExt;
use reef_door::{Boot, DoorPhase, ending};
use reef_model::Isolation;
use tokio::{
    io::BufReader,
    process::Child,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    chat::Chat,
    egress,
    gateway::Gateway,
    listener,
    logs::LogRing,
    model, status,
    work::{Attached, Work},
};
use crate::{
    isolation::{self, HandsUser, Layout},
    process,
    wire::{Channel, Start, ToDoor, ToHands},
};

/// How long hands may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the gateway may take to be ready; 29 s were seen for one that checks its databases, on two idle cores.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
const BOOT_POLL: Duration = Duration::from_millis(250);
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);
const LIVE_PERIOD: Duration = Duration::from_secs(15);
/// Health requests in a row without an answer after which the gateway is taken for hung.
const LIVE_FAILURES: u32 = 6;
/// Between two messages of hands; a flood of them waits in its own socket.
const MESSAGE_PAUSE: Duration = Duration::from_millis(20);
/// OpenClaw's exit status for a configuration that it refuses (EX_CONFIG of sysexits.h).
const EXIT_CONFIG: i32 = 78;
const REASON_LINES: usize = 3;

/// All that supervision needs.
pub(crate) struct Supervisor {
    pub(crate) boot: Boot,
    pub(crate) isolation: Isolation,
    pub(crate) share_network: bool,
    pub(crate) layout: Layout,
    pub(crate) user: Option<HandsUser>,
    pub(crate) status: Arc<status::StatusBoard>,
    pub(crate) logs: Arc<LogRing>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) chat: Arc<Chat>,
    pub(crate) model: Arc<model::ModelRelay>,
    pub(crate) work: Work,
    /// Cancelled: stop everything.
    pub(crate) shutdown: CancellationToken,
}

/// How a part of the loop ended.
enum Ended {
    /// The door is going down.
    Shutdown,
    /// The gateway ended or never came up, hands lives.
    Gateway { reason: String, ready_since: Option<Instant> },
}

/// A running hands.
struct Hands {
    child: Child,
    channel: Channel,
    /// Whether the gateway was started and its end not heard of.
    has_gateway: bool,
    /// Serves until dropped.
    _listeners: Vec<listener::Served>,
    /// Takes calls until dropped.
    work: Attached,
}

impl Supervisor {
    /// Runs until the shutdown, then stops the gateway and hands.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        while !self.shutdown.is_cancelled() {
            let ended = match self.start_hands().await {
                Ok(mut hands) => {
                    let ended = self.run_gateways(&mut hands, &mut backoff).await;
                    self.stop(hands).await;
                    ended
                }
                Err(error) => Err(error),
            };
            self.gateway.set_ready(false);
            if let Err(error) = ended {
                self.wait_after(&mut backoff, format!("{error:#}"), None).await;
            }
        }
    }

    async fn start_hands(&self) -> anyhow::Result<Hands> {
        let model_token: String = hex(&rand::rng().random::<[u8; 32]>());
        self.logs.hide(vec![
            model_token.clone(),
            self.boot.gateway_token.clone(),
            self.boot.door_token.clone(),
        ]);
        let trust_env = isolation::trust_env(self.user);
        let prepared = isolation::hands_command(
            self.isolation,
            self.share_network,
            &self.layout,
            self.user,
            &trust_env,
        )?;
        let (ours, theirs) = Channel::pair()?;
        let (our_work, their_work) = Channel::pair()?;
        let listener = self.gateway.listen().context("cannot listen for hands")?;
        let mut command = prepared.command;
        let mut child = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start hands ({})", self.isolation))?;
        drop((command, prepared.inherited));
        if let Some(stderr) = child.stderr.take() {
            let logs = self.logs.clone();
            tokio::spawn(async move { logs.follow(BufReader::new(stderr)).await });
        }
        let channel = Channel::new(ours)?;
        let has_egress = self.isolation == Isolation::Bubblewrap && !self.share_network;
        let seen = self.layout.seen_by_hands(self.isolation);
        let start = ToHands::Start(Box::new(Start {
            isolation: self.isolation,
            home: seen.home,
            workspace: seen.workspace,
            openclaw: seen.openclaw,
            gateway_token: self.boot.gateway_token.clone(),
            model_token: model_token.clone(),
            env: self.boot.env.clone(),
            trust_env,
            has_egress,
            pids: self.boot.pids.filter(|_| isolation::counts_processes(self.isolation, self.user)),
        }));
        let fds = [listener.as_fd(), their_work.as_fd()];
        channel.send(&start, &fds).await.context("cannot speak to hands")?;
        drop((listener, their_work));
        let hello = tokio::select! {
            hello = timeout(HELLO_TIMEOUT, channel.recv_with_fds::<ToDoor>()) => hello,
            _ = child.wait() => Ok(Ok(None)),
        };
        let Ok(Ok(Some((ToDoor::Hello, fds)))) = hello else {
            // What it wrote may still be on its way.
            sleep(BOOT_POLL).await;
            anyhow::bail!("hands did not start ({}){}", self.isolation, self.last_lines());
        };
        let listeners =
            self.serve(fds, model_token.into(), has_egress).context("hands sent a wrong hello")?;
        let work = self.work.attach(Channel::new(our_work)?);
        Ok(Hands { child, channel, has_gateway: false, _listeners: listeners, work })
    }

    fn serve(
        &self,
        fds: Vec<OwnedFd>,
        token: Arc<str>,
        has_egress: bool,
    ) -> io::Result<Vec<listener::Served>> {
        let mut fds = fds.into_iter().map(listener::adopt);
        let mut next = || fds.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        let relay = self.model.clone();
        let mut served = vec![listener::serve("model-relay", next()?, model::CONNECTIONS, move |stream| {
            relay.clone().serve(stream, token.clone())
        })?];
        if has_egress {
            served.push(listener::serve("egress", next()?, egress::CONNECTIONS, egress::serve)?);
        }
        Ok(served)
    }

    /// Starts the gateway as often as it ends; an error means that hands is of no use any more.
    async fn run_gateways(&self, hands: &mut Hands, backoff: &mut Backoff) -> anyhow::Result<()> {
        loop {
            match self.run_gateway(hands).await? {
                Ended::Shutdown => return Ok(()),
                Ended::Gateway { reason, ready_since } => {
                    self.gateway.set_ready(false);
                    self.wait_after(backoff, reason, ready_since).await;
                    if self.shutdown.is_cancelled() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn run_gateway(&self, hands: &mut Hands) -> anyhow::Result<Ended> {
        hands.channel.send(&ToHands::RunGateway, &[]).await.context("hands is gone")?;
        hands.has_gateway = true;
        let mut ready_since = None;
        let why_hung = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(Ended::Shutdown),
            end = hands.gateway_end() => {
                self.gateway.set_ready(false);
                let reason = self.reason(end?).await;
                return Ok(Ended::Gateway { reason, ready_since });
            }
            why = self.bring_up_and_watch(&mut ready_since) => why,
        };
        self.gateway.set_ready(false);
        hands.stop_gateway(ending::FORCE).await?;
        Ok(Ended::Gateway { reason: why_hung, ready_since })
    }

    /// Waits for the gateway, warms it up, and watches it; returns why it must be restarted.
    async fn bring_up_and_watch(&self, ready_since: &mut Option<Instant>) -> String {
        let began = Instant::now();
        let version = loop {
            match self.gateway.probe_ready().await {
                Ok(version) => break version,
                Err(_) if began.elapsed() < BOOT_TIMEOUT => sleep(BOOT_POLL).await,
                Err(_) => {
                    return format!("the gateway was not ready within {} s", BOOT_TIMEOUT.as_secs());
                }
            }
        };
        let booted = began.elapsed();
        let warming = self.model.warming();
        match timeout(WARM_UP_TIMEOUT, self.chat.warm_up()).await {
            Ok(Ok(())) => {}
            // The first turn will be slower, that is all.
            Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "the warm-up failed"),
            Err(_) => tracing::warn!("the warm-up took too long"),
        }
        drop(warming);
        tracing::info!(
            boot_ms = booted.as_millis() as u64,
            warm_up_ms = (began.elapsed() - booted).as_millis() as u64,
            version,
            "the gateway is ready"
        );
        *ready_since = Some(Instant::now());
        self.gateway.set_ready(true);
        self.status.update(|status| status.openclaw_version = version);
        self.status.set_phase(DoorPhase::Ready, None);
        let mut failures = 0;
        loop {
            sleep(LIVE_PERIOD).await;
            match self.gateway.probe_live().await {
                Ok(()) => failures = 0,
                Err(_) => failures += 1,
            }
            if failures == LIVE_FAILURES {
                return "the gateway stopped answering".to_owned();
            }
        }
    }

    async fn wait_after(&self, backoff: &mut Backoff, reason: String, ready_since: Option<Instant>) {
        let wait = backoff.ended(ready_since);
        let phase = if backoff.is_failing() { DoorPhase::Failing } else { DoorPhase::Starting };
        tracing::warn!(reason, wait_ms = wait.as_millis() as u64, "starting again");
        self.status.restarting(phase, reason);
        let _ = self.shutdown.run_until_cancelled(sleep(wait)).await;
    }

    async fn reason(&self, end: ToDoor) -> String {
        // What it wrote may still be on its way.
        sleep(BOOT_POLL).await;
        match end {
            ToDoor::Exited { code: EXIT_CONFIG } => format!(
                "OpenClaw refuses its configuration (exit 78): correct openclaw.json{}",
                self.last_lines()
            ),
            ToDoor::Exited { code: 137 } => {
                format!("the gateway was killed, for want of memory perhaps{}", self.last_lines())
            }
            ToDoor::Exited { code } => format!("the gateway ended with status {code}{}", self.last_lines()),
            ToDoor::NotStarted { reason } => {
                format!("the gateway could not be started: {}", shown(&reason))
            }
            ToDoor::Hello => "hands said hello twice".to_owned(),
        }
    }

    fn last_lines(&self) -> String {
        let lines: Vec<String> =
            self.logs.tail(REASON_LINES).iter().map(|entry| shown(&entry.line)).collect();
        if lines.is_empty() { String::new() } else { format!("; it last said: {}", lines.join(" | ")) }
    }

    /// Stops the gateway gracefully if the door is going down, then hands and whatever is left of its tree.
    async fn stop(&self, mut hands: Hands) {
        if self.shutdown.is_cancelled() && hands.has_gateway {
            // Without its consent it goes with hands.
            let _ = hands.stop_gateway(ending::GATEWAY).await;
        }
        let Hands { mut child, channel, _listeners: listeners, work, .. } = hands;
        // The end of the channel tells hands to end everything and itself.
        drop((channel, listeners, work));
        if timeout(ending::FORCE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        let _ = tokio::task::spawn_blocking(|| process::kill_descendants(ending::FORCE)).await;
    }
}

impl Hands {
    /// Waits for the end of the gateway; an error is the end of hands.
    async fn gateway_end(&mut self) -> anyhow::Result<ToDoor> {
        let end = tokio::select! {
            biased;
            message = self.channel.recv::<ToDoor>() => message.context("hands cannot be understood")?,
            status = self.child.wait() => anyhow::bail!("hands ended ({})", status?),
            () = self.work.ended() => anyhow::bail!("the work channel ended"),
        };
        sleep(MESSAGE_PAUSE).await;
        self.has_gateway = false;
        end.context("hands went away")
    }

    async fn stop_gateway(&mut self, grace: Duration) -> anyhow::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.channel.send(&ToHands::StopGateway { grace_ms }, &[]).await.context("hands is gone")?;
        timeout(grace + ending::FORCE, self.gateway_end())
            .await
            .context("the gateway cannot be stopped")??;
        Ok(())
    }
}

/// A text from the tenant's side, fit for a status line: no control characters, not long.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
