//! `reef-instance`: the daemon of one OpenClaw instance, in two roles with different rights.
//!
//! - [`door`]: the only listener. Owns the chat log, the tokens, the model relay, and the supervision of the rest.
//! - [`hands`]: everything the tenant controls: the OpenClaw gateway and what its agent runs. Another user, inside a
//!   sandbox or container, started by the door and spoken to over [`wire`].
//!
//! The door treats hands as hostile: what comes from there is bounded, checked, and never decides about rights.

mod door;
mod hands;
mod isolation;
mod process;
#[cfg(test)]
mod skipped;
mod wire;

use std::process::ExitCode;

use clap::Parser;

/// The daemon of one OpenClaw instance.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Serve an instance: the listener, its chat log, and the supervision of hands.
    Door(Box<door::Args>),
    /// The tenant's side; started by the door, told everything over standard input.
    #[command(hide = true)]
    Hands,
    /// Run a command and stand over everything that it starts.
    #[command(hide = true)]
    Shepherd(hands::shepherd::Args),
    /// Print, as one line of JSON, which ways of keeping hands apart work on this machine.
    ProbeSandbox,
}

fn main() -> ExitCode {
    let result = match Cli::parse().role {
        Role::Door(args) => door::main(*args),
        Role::Hands => hands::main(),
        Role::Shepherd(args) => match hands::shepherd::main(&args) {
            Ok(ended) => return ended,
            Err(error) => Err(error),
        },
        Role::ProbeSandbox => isolation::probe::main(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // One line, the causes after it: whoever started us shows it to a person.
            let _ = writeln!(std::io::stderr(), "reef-instance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
