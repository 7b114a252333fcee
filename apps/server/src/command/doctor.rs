//! `reef doctor`: what is in force, and what is wrong with it.

use std::{path::Path, process::ExitCode, time::Duration};

use reef_config::{Config, Source};
use reef_mail::Smtp;
use reef_model::RuntimeKind;
use tokio::net::TcpListener;

use crate::{open_files, output::say, platform};

/// Below this an instance may fail to start: OpenClaw's state and a workspace.
const LOW_DISK_BYTES: u64 = 1 << 30;
const DB_PATIENCE: Duration = Duration::from_secs(15);

/// What was found, line by line.
#[derive(Default)]
struct Report {
    is_fatal: bool,
}

impl Report {
    fn good(&self, text: &str) {
        say(&format!("  ok       {text}"));
    }

    fn odd(&self, text: &str) {
        say(&format!("  look at  {text}"));
    }

    fn wrong(&mut self, text: &str) {
        self.is_fatal = true;
        say(&format!("  WRONG    {text}"));
    }
}

/// Prints everything; fails where Reef could not serve.
pub(crate) async fn run(config: anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    say(&format!("Reef {}\n", env!("CARGO_PKG_VERSION")));
    match config {
        Ok(config) => {
            settings(&config);
            say("\nChecks");
            config.warnings().iter().for_each(|warning| report.odd(warning));
            address(&config, &mut report).await;
            disk(&config.server.data_dir, &mut report);
            files(&report);
            secrets(&config, &mut report);
            mail(&config, &mut report).await;
            runtime(&config, &mut report).await;
        }
        Err(error) => {
            say("Configuration");
            format!("{error:#}").lines().for_each(|line| report.wrong(line));
        }
    }
    Ok(if report.is_fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn settings(config: &Config) {
    say("Configuration");
    for setting in config.settings() {
        let source = match setting.source {
            Source::Default => "",
            Source::File => "  (file)",
            Source::Environment => "  (environment)",
        };
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        say(&format!("  {:<38} {value}{source}", setting.variable));
    }
}

async fn address(config: &Config, report: &mut Report) {
    let listen = config.server.listen;
    match TcpListener::bind(listen).await {
        Ok(_) => report.good(&format!("{listen} is free")),
        Err(error) => {
            report.odd(&format!("{listen} cannot be had ({error}); Reef itself may be running there"))
        }
    }
}

fn disk(data_dir: &Path, report: &mut Report) {
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let text = format!("{} has {} MiB free", data_dir.display(), free >> 20);
            if free < LOW_DISK_BYTES {
                report.odd(&format!("{text}: too little for another instance"));
            } else {
                report.good(&text);
            }
        }
        Err(error) => report.wrong(&format!("{}: {error}", data_dir.display())),
    }
}

/// As `reef serve` will have it: it asks for all that it may.
fn files(report: &Report) {
    match open_files::raise() {
        Ok(most) if most < open_files::FEW => report.odd(&format!(
            "{most} files may be open at once, and each client and instance takes some: \
             raise the limit (ulimit -Hn, LimitNOFILE=, --ulimit nofile=)"
        )),
        Ok(_) => {}
        Err(error) => report.odd(&format!("the limit of open files cannot be raised: {error}")),
    }
}

fn secrets(config: &Config, report: &mut Report) {
    match platform::server_key(config) {
        Ok(_) => report.good("the server key can be read"),
        Err(error) => report.wrong(&format!("the server key: {error:#}")),
    }
}

async fn mail(config: &Config, report: &mut Report) {
    let Some(url) = &config.mail.smtp_url else {
        return report.good("REEF_SMTP_URL is not set: mail is written to the log");
    };
    match Smtp::new(url, &config.mail.from) {
        Ok(smtp) => match smtp.check().await {
            Ok(()) => report.good("the mail server answers"),
            // Mail waits for it; Reef serves without.
            Err(error) => report.odd(&format!("{:#}", anyhow::Error::from(error))),
        },
        Err(error) => report.wrong(&format!("{:#}", anyhow::Error::from(error))),
    }
}

async fn runtime(config: &Config, report: &mut Report) {
    let db = match tokio::time::timeout(DB_PATIENCE, platform::database(config)).await {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => return report.wrong(&format!("the database: {error:#}")),
        Err(_) => return report.wrong(&format!("the database does not answer within {DB_PATIENCE:?}")),
    };
    let engine = if config.database.is_postgres { "PostgreSQL" } else { "SQLite" };
    report.good(&format!("{engine} answers, its schema is up to date"));
    match platform::runtime(config, &db).await {
        Ok(runtime) => {
            let kind = config.runtime;
            for finding in runtime.check().await {
                if finding.is_fatal {
                    report.wrong(&format!("{kind}: {}", finding.message));
                } else {
                    report.good(&format!("{kind}: {}", finding.message));
                }
            }
            if kind == RuntimeKind::Process {
                report.good(&format!("instances are kept in by: {}", runtime.isolation()));
            }
        }
        Err(error) => report.wrong(&format!("{error:#}")),
    }
    db.close().await;
}
