//! `reef migrate`

use std::process::ExitCode;

use reef_config::Config;

use crate::{output::say, platform};

/// Brings the schema up to date, and says so.
pub(crate) async fn run(config: Config) -> anyhow::Result<ExitCode> {
    platform::database(&config).await?.close().await;
    say("The database is up to date.");
    Ok(ExitCode::SUCCESS)
}
