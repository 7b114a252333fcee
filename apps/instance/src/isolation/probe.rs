//! `reef-instance probe-sandbox`: what works on this machine, found by trying it.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::Context;
use reef_model::Isolation;

/// One line of JSON: `{"isolation":"bubblewrap","bubblewrap":{"works":true},"landlock":{"works":false,"reason":"…"}}`.
#[derive(serde::Serialize)]
struct Report {
    /// The strongest that works.
    isolation: Isolation,
    bubblewrap: Finding,
    landlock: Finding,
}

#[derive(serde::Serialize)]
struct Finding {
    works: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<anyhow::Result<()>> for Finding {
    fn from(tried: anyhow::Result<()>) -> Self {
        Self { works: tried.is_ok(), reason: tried.err().map(|error| format!("{error:#}")) }
    }
}

/// Prints the report. Run it as the user that hands will be: a sandbox may work for root alone.
pub(crate) fn main() -> anyhow::Result<()> {
    let bubblewrap = Finding::from(try_bubblewrap());
    // Last, since it restricts this process for good.
    let landlock = Finding::from(super::landlock::restrict(&[], &[]));
    let isolation = match (bubblewrap.works, landlock.works) {
        (true, _) => Isolation::Bubblewrap,
        (false, true) => Isolation::Landlock,
        (false, false) => Isolation::None,
    };
    let line = serde_json::to_string(&Report { isolation, bubblewrap, landlock })?;
    writeln!(std::io::stdout(), "{line}").context("cannot print")
}

fn try_bubblewrap() -> anyhow::Result<()> {
    let mut command: Command = super::bubblewrap::trial().into_std();
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("bwrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "bwrap does not work here: {}", said.trim());
    Ok(())
}
