//! `reef`: the control plane. This crate is the composition root: [`platform`] makes every concrete choice, the rest of
//! it is the command line, the listener and the stop.

mod command;
mod listen;
mod model_access;
mod open_files;
mod output;
mod platform;
mod server_key;
mod stop;
mod telemetry;
mod usage;
mod web;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use reef_config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hosts OpenClaw for people and for programs.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// A TOML file that says what differs from the defaults; the environment wins over it.
    #[arg(long, global = true, env = "REEF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane.
    Serve,
    /// Bring the database's schema up to date.
    Migrate,
    /// Print the OpenAPI document.
    Openapi(command::openapi::Args),
    /// Print what is in force, and what is wrong with it.
    Doctor,
    /// Manage accounts, keys and invites without the browser.
    #[command(subcommand)]
    Admin(command::admin::Command),
}

fn main() -> ExitCode {
    // Before anything may open a TLS connection; fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Openapi(args) = &cli.command {
        return command::openapi::run(args);
    }
    let config = load(cli.config.as_deref());
    if let Command::Doctor = cli.command {
        return runtime()?.block_on(command::doctor::run(config));
    }
    let config = config?;
    match cli.command {
        Command::Serve => runtime()?.block_on(command::serve::run(config)),
        Command::Migrate => runtime()?.block_on(command::migrate::run(config)),
        Command::Admin(command) => runtime()?.block_on(command::admin::run(config, command)),
        Command::Openapi(_) | Command::Doctor => unreachable!("answered above"),
    }
}

fn load(file: Option<&std::path::Path>) -> anyhow::Result<Config> {
    let text = file
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(text.as_deref(), env)?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}
