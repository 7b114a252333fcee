//! From text to types, collecting every problem on the way.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use reef_model::RuntimeKind;
use secrecy::SecretString;

use crate::{
    Config, Database, Instance, Log, LogFormat, Mail, Model, Operator, Process, ProcessNetwork, S3, Server,
    Stripe, layers::Layers,
};

/// Shorter than this is guessable, whatever it is made of.
const MIN_SECRET_KEY_CHARS: usize = 32;
const MIN_PASSWORD_CHARS: usize = 10;
/// Whoever reloads a page or changes networks finds the shell again.
const MIN_TERMINAL_IDLE_SECONDS: u64 = 60;

/// Builds the typed form; `None` where `problems` is not empty at the end.
pub(crate) fn config(mut layers: Layers, problems: &mut Vec<String>) -> Option<Config> {
    let warnings = std::mem::take(&mut layers.warnings);
    let mut check = Check { layers: &layers, problems };
    let server = check.server();
    let config = Config {
        log: check.log(),
        database: check.database(&server.data_dir),
        secret_key: check.secret_key(),
        operator: check.operator(),
        runtime: check.word(
            "runtime.kind",
            &[
                ("process", RuntimeKind::Process),
                ("docker", RuntimeKind::Docker),
                ("kubernetes", RuntimeKind::Kubernetes),
            ],
        ),
        allow_unisolated: layers.is_on("runtime.allow_unisolated"),
        warm_pool: check.number("runtime.warm_pool"),
        process: Process {
            allow_bare: layers.is_on("process.allow_bare"),
            network: check.word(
                "process.network",
                &[("isolated", ProcessNetwork::Isolated), ("shared", ProcessNetwork::Shared)],
            ),
        },
        instance: Instance {
            image: layers.text("instance.image"),
            offered_images: layers.list("instance.offered_images"),
            openclaw_version: layers.text("instance.openclaw_version"),
            openclaw_dir: layers.text("instance.openclaw_dir").map(PathBuf::from),
            restore_window: Duration::from_secs(check.number("instance.restore_window_seconds")),
            terminal_idle: check.terminal_idle(),
            bin: layers.text("instance.bin").map(PathBuf::from),
        },
        model: check.model(),
        stripe: check.stripe(),
        s3: check.s3(),
        mail: check.mail(),
        openclaw_controls: layers.is_on("compat.openclaw_controls"),
        settings: layers.settings(),
        warnings,
        server,
    };
    check.contradictions(&config);
    problems.is_empty().then_some(config)
}

struct Check<'a> {
    layers: &'a Layers,
    problems: &'a mut Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, key: &str, what: &str, like: &str) {
        let name = self.layers.spoken(key);
        self.problems.push(format!("{name} {what}: type {name}={like}"));
    }

    fn parsed<T: FromStr>(&mut self, key: &str, what: &str, like: &str) -> Option<T> {
        let text = self.layers.text(key)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(key, &format!("is {text:?}, which is not {what}"), like);
        }
        value
    }

    fn number<T: TryFrom<i64> + Default>(&mut self, key: &str) -> T {
        T::try_from(self.layers.number(key)).unwrap_or_else(|_| {
            self.wrong(key, "must be zero or more", "0");
            T::default()
        })
    }

    fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> T {
        let text = self.layers.text(key).unwrap_or_default();
        words.iter().find(|(word, _)| *word == text).map_or_else(
            || {
                let allowed = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                self.wrong(key, &format!("is {text:?}, which is none of {allowed}"), words[0].0);
                words[0].1
            },
            |(_, value)| *value,
        )
    }

    /// Returns a URL with one of the schemes, without a trailing slash.
    fn url(&mut self, key: &str, schemes: &[&str]) -> Option<String> {
        let text = self.layers.text(key)?;
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        if rest.is_none_or(str::is_empty) {
            self.wrong(
                key,
                &format!("must begin with {}", schemes.join(" or ")),
                &format!("{}…", schemes[0]),
            );
            return None;
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    fn server(&mut self) -> Server {
        const ADDRESS: &str = "an address and a port";
        let listen = self.parsed("server.listen", ADDRESS, "127.0.0.1:8080");
        let content_url = self.url("server.content_url", &["https://", "http://"]);
        if content_url.as_ref().is_some_and(|url| !url.contains("://{instance}.")) {
            let like = "https://{instance}.content.example.org";
            self.wrong(
                "server.content_url",
                "must begin its host with {instance}, one origin per instance",
                like,
            );
        }
        let trusted_proxies = self
            .layers
            .list("server.trusted_proxies")
            .into_iter()
            .filter_map(|text| {
                let net: Option<IpNet> =
                    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
                if net.is_none() {
                    let what = format!("has {text:?}, which is neither an address nor a network");
                    self.wrong("server.trusted_proxies", &what, "10.0.0.0/8,192.0.2.7");
                }
                net
            })
            .collect();
        let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let delay = Duration::from_secs(self.number("server.shutdown_delay_seconds"));
        let is_delayed = self.layers.is_said("server.shutdown_delay_seconds") || !listen.ip().is_loopback();
        Server {
            listen,
            public_url: self.parsed("server.public_url", "an origin", "https://reef.example.org"),
            content_url,
            data_dir: self.layers.text("server.data_dir").unwrap_or_else(|| "./data".into()).into(),
            trusted_proxies,
            rate_limits: self.layers.is_on("server.rate_limits"),
            metrics_listen: self.parsed("server.metrics_listen", ADDRESS, "127.0.0.1:9090"),
            peer_listen: self.parsed("server.peer_listen", ADDRESS, "0.0.0.0:8443"),
            peer_url: self.parsed("server.peer_url", "an origin", "https://10.0.0.1:8443"),
            shutdown_delay: if is_delayed { delay } else { Duration::ZERO },
            shutdown_grace: Duration::from_secs(self.number("server.shutdown_grace_seconds")),
        }
    }

    fn log(&mut self) -> Log {
        Log {
            format: self.word("log.format", &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]),
            filter: self.layers.text("log.filter").unwrap_or_else(|| "info".into()),
        }
    }

    fn database(&mut self, data_dir: &std::path::Path) -> Database {
        let url = self
            .url("database.url", &["sqlite:", "postgres://", "postgresql://"])
            .unwrap_or_else(|| format!("sqlite://{}", data_dir.join("reef.db").display()));
        Database { is_postgres: url.starts_with("postgres"), url: url.into() }
    }

    fn secret_key(&mut self) -> Option<SecretString> {
        let key = self.layers.text("secrets.key")?;
        if key.chars().count() < MIN_SECRET_KEY_CHARS {
            self.wrong("secrets.key", "must have at least 32 characters", "$(openssl rand -base64 32)");
        }
        Some(key.into())
    }

    fn operator(&mut self) -> Operator {
        let email = self.layers.text("operator.email").unwrap_or_default();
        if !email.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty()) {
            self.wrong("operator.email", "is no mail address", "operator@example.org");
        }
        let password = self.layers.text("operator.password");
        if password.as_ref().is_some_and(|password| password.chars().count() < MIN_PASSWORD_CHARS) {
            self.wrong("operator.password", "must have at least 10 characters", "$(openssl rand -base64 18)");
        }
        Operator { email, password: password.map(SecretString::from) }
    }

    fn terminal_idle(&mut self) -> Duration {
        const KEY: &str = "instance.terminal_idle_seconds";
        let seconds = self.number(KEY);
        if seconds < MIN_TERMINAL_IDLE_SECONDS {
            self.wrong(KEY, "must be 60 or more", "43200");
        }
        Duration::from_secs(seconds)
    }

    fn model(&mut self) -> Option<Model> {
        let Some(base_url) = self.url("model.base_url", &["https://", "http://"]) else {
            if self.layers.text("model.api_key").is_some() && self.layers.text("model.base_url").is_none() {
                self.wrong(
                    "model.base_url",
                    "is missing beside the model's key",
                    "https://api.openai.com/v1",
                );
            }
            return None;
        };
        let name = self.layers.text("model.name").unwrap_or_else(|| "default".into());
        Some(Model {
            base_url,
            api_key: self.layers.text("model.api_key").map(SecretString::from),
            name,
            embedding_name: self.layers.text("model.embedding_name"),
        })
    }

    fn stripe(&mut self) -> Option<Stripe> {
        let secret_key = self.layers.text("stripe.secret_key")?;
        let webhook_secret = self.needed("stripe.webhook_secret", "whsec_…");
        let api_base = self.url("stripe.api_base", &["https://", "http://"]).unwrap_or_default();
        Some(Stripe { secret_key: secret_key.into(), webhook_secret: webhook_secret.into(), api_base })
    }

    fn mail(&mut self) -> Mail {
        const KEY: &str = "mail.smtp_url";
        let smtp_url = self.url(KEY, &["smtp://", "smtps://"]);
        let rest = smtp_url.as_deref().and_then(|url| url.split_once("://")).map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let is_here = ["localhost", "127.", "[::1]"].iter().any(|here| host.starts_with(here));
        let is_open =
            smtp_url.as_ref().is_some_and(|url| url.starts_with("smtp://") && !url.contains("tls="));
        if smtp_url.is_some() && host.is_empty() {
            self.wrong(KEY, "names no server", "smtps://USER:PASSWORD@HOST");
        } else if is_open && !login.is_empty() && !is_here {
            self.wrong(KEY, "sends a password in the clear", "smtp://USER:PASSWORD@HOST:587?tls=required");
        }
        let from = self.layers.text("mail.from").unwrap_or_default();
        let address = from.rsplit_once('<').map_or(from.as_str(), |(_, rest)| rest.trim_end_matches('>'));
        if !address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            self.wrong("mail.from", "is no mail address", "'Reef <reef@example.org>'");
        }
        Mail { smtp_url: smtp_url.map(SecretString::from), from }
    }

    fn s3(&mut self) -> Option<S3> {
        let bucket = self.layers.text("s3.bucket")?;
        Some(S3 {
            bucket,
            endpoint: self.url("s3.endpoint", &["https://", "http://"]),
            region: self.needed("s3.region", "us-east-1"),
            access_key_id: self.needed("s3.access_key_id", "…").into(),
            secret_access_key: self.needed("s3.secret_access_key", "…").into(),
        })
    }

    /// Returns a setting that another one makes necessary.
    fn needed(&mut self, key: &str, like: &str) -> String {
        self.layers.text(key).unwrap_or_else(|| {
            self.wrong(key, "is missing", like);
            String::new()
        })
    }

    fn contradictions(&mut self, config: &Config) {
        if config.database.is_postgres && config.secret_key.is_none() {
            self.wrong("secrets.key", "is required with PostgreSQL", "$(openssl rand -base64 32)");
        }
        let is_public = !config.server.listen.ip().is_loopback()
            || config.server.public_url.as_ref().is_some_and(|origin| !origin.is_loopback());
        if config.runtime == RuntimeKind::Process && is_public && !config.allow_unisolated {
            self.problems.push(
                "REEF_RUNTIME=process runs tenants as processes of this machine, so it serves this machine only: \
                 type REEF_RUNTIME=docker, or REEF_ALLOW_UNISOLATED=1 where you trust every tenant"
                    .into(),
            );
        }
        if config.server.peer_listen.is_some() != config.server.peer_url.is_some() {
            let missing =
                if config.server.peer_url.is_none() { "server.peer_url" } else { "server.peer_listen" };
            self.wrong(missing, "is missing beside its twin", "…");
        }
    }
}
