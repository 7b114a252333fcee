//! The composition root: every concrete choice is made here.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use reef_api::{ApiParts, ApiState, Caps, RateLimits};
use reef_auth::{SecretBox, ServerKey, Tickets};
use reef_config::{Config, Origin, ProcessNetwork};
use reef_control::{Control, Courier, Parts, Policy};
use reef_db::Db;
use reef_mail::{LogMailer, Mailer, Smtp};
use reef_model::{InstanceId, RequestId, RuntimeKind, SystemClock};
use reef_model_gateway::{ModelGateway, ProviderConfig};
use reef_runtime::Runtime;
use reef_runtime_docker::{DockerConfig, DockerRuntime};
use reef_runtime_process::{ProcessConfig, ProcessRuntime};
use reef_worker::{Schedule, Workers};
use secrecy::ExposeSecret;

use crate::{model_access::ModelSockets, server_key, usage::Meters, web};

/// At most so many connections to PostgreSQL.
const DB_CONNECTIONS: u32 = 16;
const USAGE_FLUSH: Duration = Duration::from_secs(5);
/// How long background work may take to end, and answers of models.
const WORKERS_GRACE: Duration = Duration::from_secs(10);
/// Bridges of instances; an RFC 1918 block that machines and home networks seldom use.
const SUBNETS: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 0);
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// The parts that run; see [`Platform::start`] and [`Platform::stop`].
pub(crate) struct Platform {
    pub(crate) control: Control,
    pub(crate) api: ApiState,
    db: Db,
    models: ModelGateway,
    meters: Arc<Meters>,
    courier: Arc<Courier>,
    workers: Workers,
}

impl Platform {
    /// Puts everything together over a database that is up to date; nothing runs yet.
    pub(crate) fn new(
        config: &Config,
        origin: Origin,
        db: Db,
        runtime: Arc<dyn Runtime>,
    ) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let key = server_key(config)?;
        let meters = Arc::new(Meters::default());
        let provider = config.model.clone().map(|model| ProviderConfig {
            base_url: model.base_url,
            api_key: model.api_key,
            model: model.name,
            embedding_model: model.embedding_name,
        });
        let models = ModelGateway::new(provider, meters.clone())
            .context("cannot make a client of the model provider")?;
        let control = Control::new(Parts {
            db: db.clone(),
            clock: clock.clone(),
            runtime,
            model_access: Arc::new(ModelSockets(models.clone())),
            secrets: SecretBox::new(&key, &[]),
            replica: format!("{}-{}", std::process::id(), RequestId::generate()),
            policy: Policy {
                restore_window: config.instance.restore_window,
                offered_images: config.instance.offered_images.clone(),
                ..Policy::default()
            },
        });
        let workers = Workers::new(clock);
        let mailer: Arc<dyn Mailer> = match &config.mail.smtp_url {
            Some(url) => Arc::new(Smtp::new(url, &config.mail.from)?),
            None => Arc::new(LogMailer),
        };
        let courier = Arc::new(Courier::new(control.accounts().clone(), mailer, origin.to_string()));
        let api = ApiState::new(ApiParts {
            control: control.clone(),
            tickets: Tickets::new(&key),
            origin,
            trusted_proxies: config.server.trusted_proxies.clone(),
            limits: match config.server.rate_limits {
                true => RateLimits::default(),
                false => RateLimits::with(|_| (u32::MAX, Duration::from_secs(1))),
            },
            caps: Self::caps(config),
            workers: workers.clone(),
            web: web::built(),
        });
        Ok(Self { control, api, db, models, meters, courier, workers })
    }

    /// Returns how much there may be at once.
    pub(crate) fn caps(config: &Config) -> Caps {
        if config.server.rate_limits { Caps::default() } else { Caps::NONE }
    }

    /// Starts the background work.
    pub(crate) fn start(&self) {
        let control = self.control.clone();
        self.workers
            .spawn_service("reconcile", move |stop| reef_control::reconcile::run(control.clone(), stop));
        let api = self.api.clone();
        self.workers.spawn_service("api", move |stop| {
            let api = api.clone();
            async move { api.run(stop).await }
        });
        let courier = self.courier.clone();
        self.workers.spawn_service("mail", move |stop| {
            let courier = courier.clone();
            async move { courier.run(stop).await }
        });
        let (meters, db) = (self.meters.clone(), self.db.clone());
        self.workers.spawn("usage", Schedule::every(USAGE_FLUSH), move |_| {
            let (meters, db) = (meters.clone(), db.clone());
            async move { Ok(meters.flush(&db).await?) }
        });
    }

    /// Ends the background work in the order in which nothing is lost: models answer last, then what was used is written.
    pub(crate) async fn stop(self) {
        if !self.workers.shutdown(WORKERS_GRACE).await {
            tracing::warn!("background work did not end in time");
        }
        if !self.models.shutdown(WORKERS_GRACE).await {
            tracing::warn!("answers of models were cut; gateways ask again");
        }
        if let Err(error) = self.meters.flush(&self.db).await {
            tracing::error!(error = &error as &dyn std::error::Error, "usage is not recorded");
        }
        self.db.close().await;
    }
}

/// Opens the database and brings its schema up to date.
pub(crate) async fn database(config: &Config) -> anyhow::Result<Db> {
    let db =
        Db::connect(config.database.url.expose_secret(), DB_CONNECTIONS).await.context("DATABASE_URL")?;
    db.migrate().await?;
    Ok(db)
}

/// Fails where the server key is another than the one that secrets in this database are sealed with.
pub(crate) async fn check_server_key(config: &Config, db: &Db) -> anyhow::Result<()> {
    const PLACE: &[u8] = b"server key check";
    let secrets = SecretBox::new(&server_key(config)?, &[]);
    let mut tx = db.write().await?;
    let sealed = hex::encode(secrets.seal(b"reef", PLACE));
    let sealed = tx.get_or_insert_setting("server_key_check", &sealed).await?;
    tx.commit().await?;
    let is_ours = hex::decode(sealed).is_ok_and(|sealed| secrets.open(&sealed, PLACE).is_ok());
    anyhow::ensure!(
        is_ours,
        "the server key is not the one that this database was first used with: put the former REEF_SECRET_KEY back, or \
         the former secret.key into {}; without it no instance can be reached",
        config.server.data_dir.display()
    );
    Ok(())
}

/// Returns the key that everything secret is derived from.
pub(crate) fn server_key(config: &Config) -> anyhow::Result<ServerKey> {
    server_key::obtain(config.secret_key.as_ref(), &config.server.data_dir)
}

/// Makes the runtime that is configured.
pub(crate) async fn runtime(config: &Config, db: &Db) -> anyhow::Result<Arc<dyn Runtime>> {
    match config.runtime {
        RuntimeKind::Process => Ok(Arc::new(
            ProcessRuntime::new(ProcessConfig {
                data_dir: config.server.data_dir.clone(),
                instance_bin: instance_bin(config)?,
                openclaw_dir: config
                    .instance
                    .openclaw_dir
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(".cache/openclaw/current")),
                allow_bare: config.process.allow_bare,
                share_network: config.process.network == ProcessNetwork::Shared,
                terminal_idle: config.instance.terminal_idle,
            })
            .await,
        )),
        RuntimeKind::Docker => Ok(Arc::new(
            DockerRuntime::connect(DockerConfig {
                host: std::env::var("DOCKER_HOST").unwrap_or_else(|_| DOCKER_SOCKET.to_owned()),
                data_dir: std::path::absolute(&config.server.data_dir)?,
                deployment: deployment(db).await?,
                image: config
                    .instance
                    .image
                    .clone()
                    .unwrap_or_else(|| concat!("reef-instance:", env!("CARGO_PKG_VERSION")).to_owned()),
                subnets: SUBNETS,
                resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
                terminal_idle: config.instance.terminal_idle,
            })
            .await?,
        )),
        other @ (RuntimeKind::Kubernetes | RuntimeKind::Host) => {
            anyhow::bail!("REEF_RUNTIME={other} is not in this version; use process or docker")
        }
    }
}

/// The `reef-instance` that was built with this binary, unless another is configured.
fn instance_bin(config: &Config) -> anyhow::Result<PathBuf> {
    match &config.instance.bin {
        Some(path) => Ok(path.clone()),
        None => Ok(std::env::current_exe()
            .context("cannot find this program's file")?
            .with_file_name("reef-instance")),
    }
}

/// Returns the name of this deployment, made once.
async fn deployment(db: &Db) -> anyhow::Result<String> {
    let mut tx = db.write().await?;
    let name = tx.get_or_insert_setting("deployment", &InstanceId::generate().to_string()).await?;
    tx.commit().await?;
    Ok(name)
}
