//! What the operator decided: built-in defaults, then a TOML file, then the environment.
//!
//! Pure: the caller hands in the text of the file and the environment's variables, so that tests need neither. The
//! commented `config.default.toml` is documentation, default and schema in one; to add a setting, add its line there, its
//! variable in `variables.rs` and its field in [`Config`].

mod layers;
mod origin;
mod validate;
mod variables;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use reef_model::RuntimeKind;
use secrecy::SecretString;

pub use crate::{
    layers::{Setting, Source},
    origin::Origin,
};

/// The commented defaults, as an operator may copy them.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Everything that is in force. Secrets redact themselves in `Debug`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners and addresses.
    pub server: Server,
    /// Log records.
    pub log: Log,
    /// The database.
    pub database: Database,
    /// Encrypts secrets at rest; none: made in the data directory.
    pub secret_key: Option<SecretString>,
    /// The first account.
    pub operator: Operator,
    /// Where instances run.
    pub runtime: RuntimeKind,
    /// Whether [`RuntimeKind::Process`] may serve others than this machine.
    pub allow_unisolated: bool,
    /// Pre-booted instances per plan.
    pub warm_pool: u32,
    /// The process runtime.
    pub process: Process,
    /// What instances are made of.
    pub instance: Instance,
    /// The operator's model provider; none: the demo model.
    pub model: Option<Model>,
    /// Subscriptions; none: off.
    pub stripe: Option<Stripe>,
    /// The object store; none: a directory.
    pub s3: Option<S3>,
    /// Outgoing mail.
    pub mail: Mail,
    /// Whether the maintenance routes answer.
    pub openclaw_controls: bool,
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

/// Listeners and addresses.
#[derive(Debug, Clone)]
pub struct Server {
    /// The public listener; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Origin in links, cookies and documents, where it was said; see [`Server::origin`].
    pub public_url: Option<Origin>,
    /// Origin of what tenants made, with `{instance}` in it; see [`Server::content_url`].
    pub content_url: Option<String>,
    /// SQLite file, objects, keys, process instances.
    pub data_dir: PathBuf,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether it is limited how often who may do what.
    pub rate_limits: bool,
    /// Prometheus metrics; none: off.
    pub metrics_listen: Option<SocketAddr>,
    /// Replica to replica; none: off.
    pub peer_listen: Option<SocketAddr>,
    /// Where other replicas reach this one.
    pub peer_url: Option<Origin>,
    /// How long a stop goes on serving while it says that it is not ready.
    pub shutdown_delay: Duration,
    /// How long a stop may wait for open requests.
    pub shutdown_grace: Duration,
}

impl Server {
    /// Returns the public origin; made from `bound`, the listener's real address, where none was configured.
    pub fn origin(&self, bound: SocketAddr) -> Origin {
        self.public_url.clone().unwrap_or_else(|| Origin::of_listener(bound))
    }

    /// Returns the content origin with `{instance}` in it.
    pub fn content_url(&self, bound: SocketAddr) -> String {
        self.content_url.clone().unwrap_or_else(|| format!("http://{{instance}}.localhost:{}", bound.port()))
    }
}

/// Log records.
#[derive(Debug, Clone)]
pub struct Log {
    /// How they are written.
    pub format: LogFormat,
    /// Which, in the syntax of tracing-subscriber's `EnvFilter`.
    pub filter: String,
}

/// How log records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Database {
    /// `sqlite://…` or `postgres://…`; secret because it may hold a password.
    pub url: SecretString,
    /// Whether it is PostgreSQL.
    pub is_postgres: bool,
}

/// The first account.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Its address.
    pub email: String,
    /// Its password; none: made and printed once.
    pub password: Option<SecretString>,
}

/// The process runtime.
#[derive(Debug, Clone)]
pub struct Process {
    /// Whether instances may run with no sandbox around them.
    pub allow_bare: bool,
    /// Whether instances share the machine's network.
    pub network: ProcessNetwork,
}

/// What network an instance of the process runtime has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessNetwork {
    /// A namespace of its own with a filtered way out.
    Isolated,
    /// The machine's.
    Shared,
}

/// What instances are made of.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The image; none: the one built for this version.
    pub image: Option<String>,
    /// Images that owners may choose beside it.
    pub offered_images: Vec<String>,
    /// OpenClaw's version; none: the pinned one.
    pub openclaw_version: Option<String>,
    /// Directory with `node_modules/openclaw` and its Node; none: `.cache/openclaw/current`.
    pub openclaw_dir: Option<PathBuf>,
    /// How long a deleted instance can be restored.
    pub restore_window: Duration,
    /// After how long without viewers, input and output a shell is ended.
    pub terminal_idle: Duration,
    /// The `reef-instance` binary; none: beside this one.
    pub bin: Option<PathBuf>,
}

/// An OpenAI-compatible provider.
#[derive(Debug, Clone)]
pub struct Model {
    /// Up to and including `/v1`, without a trailing slash.
    pub base_url: String,
    /// Its key, where it wants one.
    pub api_key: Option<SecretString>,
    /// The model's name there.
    pub name: String,
    /// The model of embeddings; none: there are no embeddings.
    pub embedding_name: Option<String>,
}

/// Stripe.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// The secret key.
    pub secret_key: SecretString,
    /// Checks what the webhook receives.
    pub webhook_secret: SecretString,
    /// Where the API is.
    pub api_base: String,
}

/// An S3 bucket.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// Its address; none: the region's own.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Whose access.
    pub access_key_id: SecretString,
    /// The secret of it.
    pub secret_access_key: SecretString,
}

/// Outgoing mail.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The server; none: mail is written to the log.
    pub smtp_url: Option<SecretString>,
    /// The sender.
    pub from: String,
}

/// Everything that is wrong, each a line that says what to type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One line each, in the order of `config.default.toml`.
    pub problems: Vec<String>,
}

impl Config {
    /// Lays the `file`'s text and the environment over the defaults and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem at once.
    pub fn load(
        file: Option<&str>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (layers, mut problems) = layers::Layers::merge(file, env);
        validate::config(layers, &mut problems).ok_or(ConfigError { problems })
    }

    /// Returns every setting in force in the order of `config.default.toml`, secrets redacted.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Returns what is not wrong but looks like a mistake, a variable that nobody reads for instance.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn problems(file: Option<&str>, pairs: &[(&str, &str)]) -> Vec<String> {
        Config::load(file, env(pairs)).unwrap_err().problems
    }

    #[test]
    fn defaults_serve_a_local_run() {
        let config = Config::load(None, env(&[])).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.server.origin(config.server.listen).as_str(), "http://127.0.0.1:8080");
        assert_eq!(config.server.content_url(config.server.listen), "http://{instance}.localhost:8080");
        assert_eq!(config.database.url.expose_secret(), "sqlite://./data/reef.db");
        assert_eq!(config.runtime, RuntimeKind::Process);
        assert_eq!(config.instance.terminal_idle, Duration::from_secs(12 * 3600));
        assert!(config.model.is_none() && config.stripe.is_none() && config.s3.is_none());
        assert!(config.warnings().is_empty());
    }

    #[test]
    fn environment_wins_over_file_over_defaults() {
        let file = "[server]\nlisten = \"127.0.0.1:9000\"\ndata_dir = \"/srv/reef\"\n";
        let config = Config::load(Some(file), env(&[("REEF_LISTEN", "127.0.0.1:9001")])).unwrap();
        assert_eq!(config.server.listen.port(), 9001);
        assert_eq!(config.server.data_dir, PathBuf::from("/srv/reef"));
        assert_eq!(config.database.url.expose_secret(), "sqlite:///srv/reef/reef.db");
        let source = |key: &str| config.settings().iter().find(|s| s.key == key).unwrap().source;
        assert_eq!(source("server.listen"), Source::Environment);
        assert_eq!(source("server.data_dir"), Source::File);
        assert_eq!(source("runtime.kind"), Source::Default);
    }

    #[test]
    fn a_stop_is_delayed_where_others_look() {
        let delay = |pairs: &[(&str, &str)]| {
            let mut pairs = pairs.to_vec();
            pairs.push(("REEF_RUNTIME", "docker"));
            Config::load(None, env(&pairs)).unwrap().server.shutdown_delay.as_secs()
        };
        assert_eq!(delay(&[]), 0);
        assert_eq!(delay(&[("REEF_LISTEN", "0.0.0.0:8080")]), 5);
        assert_eq!(delay(&[("REEF_SHUTDOWN_DELAY_SECONDS", "5")]), 5);
        assert_eq!(delay(&[("REEF_LISTEN", "0.0.0.0:8080"), ("REEF_SHUTDOWN_DELAY_SECONDS", "0")]), 0);
    }

    #[test]
    fn a_mail_server_is_checked() {
        let wrong = |url: &str| problems(None, &[("REEF_SMTP_URL", url)]);
        assert!(wrong("smtp://ada:secret@mail.example.org:25")[0].contains("in the clear"));
        assert!(wrong("smtp://?tls=required")[0].contains("names no server"));
        assert!(wrong("http://mail.example.org")[0].contains("smtp://"));
        assert!(problems(None, &[("REEF_MAIL_FROM", "Reef")])[0].contains("REEF_MAIL_FROM"));
        for right in [
            "smtp://localhost:2525",
            "smtp://a:b@127.0.0.1",
            "smtps://a:b@m.test",
            "smtp://a:b@m.test?tls=required",
        ] {
            let config = Config::load(None, env(&[("REEF_SMTP_URL", right)])).unwrap();
            assert_eq!(config.mail.smtp_url.as_ref().unwrap().expose_secret(), right);
            assert!(!format!("{config:?}").contains("a:b@"), "redacted");
        }
    }

    #[test]
    fn an_empty_variable_is_not_set_and_an_alias_works() {
        let config = Config::load(
            None,
            env(&[("REEF_LISTEN", ""), ("OPENCLAW_IMAGE", "claw:1"), ("RUST_LOG", "debug")]),
        )
        .unwrap();
        assert_eq!(config.server.listen.port(), 8080);
        assert_eq!(config.instance.image.as_deref(), Some("claw:1"));
        assert_eq!(config.log.filter, "debug");
    }

    #[test]
    fn a_shell_that_is_looked_at_is_not_idle() {
        let load = |seconds| Config::load(None, env(&[("REEF_TERMINAL_IDLE_SECONDS", seconds)]));
        assert_eq!(load("60").unwrap().instance.terminal_idle, Duration::from_secs(60));
        assert!(load("59").unwrap_err().problems[0].contains("60 or more"));
    }

    #[test]
    fn says_all_that_is_wrong_at_once() {
        let found = problems(
            Some("[server]\nlisten = 8080\nlissten = \"x\"\n[nonsense]\na = 1\n"),
            &[
                ("REEF_RUNTIME", "podman"),
                ("REEF_WARM_POOL", "many"),
                ("REEF_TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
            ],
        );
        let expected = [
            "REEF_TRUSTED_PROXIES",
            "server.listen",
            "server.lissten",
            "nonsense",
            "REEF_RUNTIME",
            "REEF_WARM_POOL",
        ];
        for word in expected {
            assert!(found.iter().any(|problem| problem.contains(word)), "{word} in {found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().all(|problem| !problem.contains('\n')));
    }

    #[test]
    fn refuses_process_beyond_loopback_unless_told() {
        for pairs in
            [&[("REEF_LISTEN", "0.0.0.0:8080")][..], &[("REEF_PUBLIC_URL", "https://reef.example.org")]]
        {
            let found = problems(None, pairs);
            assert!(found[0].contains("REEF_ALLOW_UNISOLATED=1"), "{found:?}");
            let mut allowed = pairs.to_vec();
            allowed.push(("REEF_ALLOW_UNISOLATED", "1"));
            Config::load(None, env(&allowed)).unwrap();
            let mut docker = pairs.to_vec();
            docker.push(("REEF_RUNTIME", "docker"));
            Config::load(None, env(&docker)).unwrap();
        }
    }

    #[test]
    fn postgres_needs_a_secret_key() {
        let url = ("DATABASE_URL", "postgres://reef:hunter2@db/reef");
        assert!(problems(None, &[url])[0].contains("REEF_SECRET_KEY"));
        let key = ("REEF_SECRET_KEY", "0123456789abcdef0123456789abcdef");
        assert!(Config::load(None, env(&[url, key])).unwrap().database.is_postgres);
        assert!(problems(None, &[("REEF_SECRET_KEY", "short")])[0].contains("32 characters"));
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = "0123456789abcdef0123456789abcdef";
        let config = Config::load(
            None,
            env(&[
                ("DATABASE_URL", "postgres://reef:hunter2@db/reef"),
                ("REEF_SECRET_KEY", secret),
                ("REEF_ADMIN_PASSWORD", "hunter2hunter2"),
                ("REEF_MODEL_BASE_URL", "https://models.example/v1/"),
                ("REEF_MODEL_API_KEY", "sk-hunter2"),
            ]),
        )
        .unwrap();
        let shown = format!("{config:?} {:?}", config.settings());
        assert!(!shown.contains("hunter2") && !shown.contains(secret), "{shown}");
        assert!(shown.contains("postgres://reef:***@db/reef"), "{shown}");
        assert_eq!(config.model.unwrap().base_url, "https://models.example/v1");
    }

    #[test]
    fn warns_of_a_variable_that_nobody_reads() {
        let config = Config::load(None, env(&[("REEF_LISTN", "x"), ("PATH", "/bin")])).unwrap();
        assert_eq!(config.warnings().len(), 1);
        assert!(config.warnings()[0].contains("REEF_LISTN"));
    }

    #[test]
    fn compose_passes_every_variable_on() {
        let compose = include_str!("../../../infra/compose.yaml");
        // What an instance is made of where there are no containers.
        let other = ["REEF_INSTANCE_BIN", "REEF_OPENCLAW_DIR"];
        let is_other = |name: &str| {
            other.contains(&name) || name.starts_with("REEF_ALLOW_") || name.starts_with("REEF_PROCESS_")
        };
        let names = variables::VARIABLES.iter().map(|variable| variable.name);
        let missing: Vec<_> =
            names.filter(|name| !is_other(name) && !compose.contains(&format!("\n      {name}:"))).collect();
        assert!(missing.is_empty(), "{missing:?} do not reach the container");
    }

    #[test]
    fn warns_of_what_has_no_effect_yet() {
        let file = "[runtime]\nwarm_pool = 2\n[s3]\nregion = \"us-east-1\"\n";
        let pairs = [
            ("STRIPE_SECRET_KEY", "sk_test"),
            ("STRIPE_WEBHOOK_SECRET", "whsec"),
            ("REEF_LISTEN", "[::1]:1"),
        ];
        let config = Config::load(Some(file), env(&pairs)).unwrap();
        let named: Vec<_> = config.warnings().iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(named, ["runtime.warm_pool", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"]);
        assert!(Config::load(Some(DEFAULTS), env(&[])).unwrap().warnings().is_empty());
    }

    #[test]
    fn every_setting_names_its_variable_in_the_comments() {
        for setting in Config::load(None, env(&[])).unwrap().settings() {
            let line = DEFAULTS
                .lines()
                .find(|line| {
                    let comment = line.split_once(" # ").map(|(_, comment)| comment);
                    comment.and_then(|text| text.split(' ').next()) == Some(setting.variable)
                })
                .unwrap_or_else(|| panic!("{} is not in the comments", setting.variable));
            let name = setting.key.rsplit('.').next().unwrap();
            assert!(line.starts_with(name), "{line} is not {name}");
        }
    }
}
