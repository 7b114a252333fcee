//! `reef openapi`: needs no configuration and no database.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::output::say;

/// What to print.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The notation.
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Prints the OpenAPI document.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match args.format {
        Format::Yaml => reef_api::document_yaml(),
        Format::Json => reef_api::document_json(),
    };
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
