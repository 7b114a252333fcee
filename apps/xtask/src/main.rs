//! Developer chores and checks of this repository: `cargo xtask CHORE`.
//!
//! Not for anything that runs in production. To add a chore: a module with a `run`, a variant of
//! [`Chore`], a line in the `Makefile` if it belongs to `make lint` or `make test`.

mod deny;
#[cfg(test)]
mod rooms;

use std::process::ExitCode;

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};
use clap::{Parser, Subcommand};

/// Developer chores and checks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Hold every dependency to deny.toml: licence, bans, source.
    Deny,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Deny => deny::run(),
    };
    // Not returned: a backtrace says nothing about a licence.
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace and what it is really built from on this platform. Needs no network.
fn metadata() -> anyhow::Result<Metadata> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .other_options(vec!["--locked".into(), "--offline".into(), "--filter-platform".into(), platform])
        .exec()
        .context("reading the dependency graph; is Cargo.lock up to date and fetched?")
}
