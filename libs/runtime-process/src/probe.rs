//! Which sandbox works here, as `reef-instance probe-sandbox` finds by trying.

use std::{io, path::Path};

use reef_model::Isolation;
use tokio::process::Command;

use crate::home::UIDS;

/// What the probe printed.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Probe {
    /// The strongest that works.
    pub(crate) isolation: Isolation,
    bubblewrap: Level,
    landlock: Level,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Level {
    reason: Option<String>,
}

impl Probe {
    /// Tries; where that itself fails, nothing works.
    pub(crate) async fn run(instance_bin: &Path, is_privileged: bool) -> Self {
        let outcome = match is_privileged {
            // A sandbox may work for root alone, and hands are not root.
            true => match try_as(instance_bin, Some(*UIDS.start())).await {
                // That user cannot reach the program; the door has other ways.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    try_as(instance_bin, None).await
                }
                outcome => outcome,
            },
            false => try_as(instance_bin, None).await,
        };
        outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, program = %instance_bin.display(), "probing for a sandbox failed");
            Self {
                isolation: Isolation::None,
                bubblewrap: Level { reason: Some(format!("probing failed: {error}")) },
                landlock: Level::default(),
            }
        })
    }

    /// Returns why nothing stronger works.
    pub(crate) fn weakness(&self) -> String {
        let reasons = [&self.bubblewrap.reason, &self.landlock.reason];
        reasons.into_iter().flatten().cloned().collect::<Vec<_>>().join("; ")
    }
}

async fn try_as(instance_bin: &Path, uid: Option<u32>) -> io::Result<Probe> {
    let mut command = Command::new(instance_bin);
    command.arg("probe-sandbox").current_dir("/").kill_on_drop(true);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output().await?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
