//! Which environment variable says which setting.

/// A setting's name in the environment.
pub(crate) struct Variable {
    /// `section.key` in `config.default.toml`.
    pub(crate) key: &'static str,
    /// The variable.
    pub(crate) name: &'static str,
    /// Another name of it, heeded where the first is not set.
    pub(crate) alias: Option<&'static str>,
    /// Whether its value is never shown.
    pub(crate) is_secret: bool,
}

const fn open(key: &'static str, name: &'static str) -> Variable {
    Variable { key, name, alias: None, is_secret: false }
}

const fn secret(key: &'static str, name: &'static str) -> Variable {
    Variable { key, name, alias: None, is_secret: true }
}

const fn alias(alias: &'static str, variable: Variable) -> Variable {
    Variable { alias: Some(alias), ..variable }
}

/// Every setting, in the order of `config.default.toml`.
pub(crate) const VARIABLES: &[Variable] = &[
    open("server.listen", "REEF_LISTEN"),
    open("server.public_url", "REEF_PUBLIC_URL"),
    open("server.content_url", "REEF_CONTENT_URL"),
    open("server.data_dir", "REEF_DATA_DIR"),
    open("server.trusted_proxies", "REEF_TRUSTED_PROXIES"),
    open("server.rate_limits", "REEF_RATE_LIMITS"),
    open("server.metrics_listen", "REEF_METRICS_LISTEN"),
    open("server.peer_listen", "REEF_PEER_LISTEN"),
    open("server.peer_url", "REEF_PEER_URL"),
    open("server.shutdown_delay_seconds", "REEF_SHUTDOWN_DELAY_SECONDS"),
    open("server.shutdown_grace_seconds", "REEF_SHUTDOWN_GRACE_SECONDS"),
    open("log.format", "REEF_LOG_FORMAT"),
    alias("RUST_LOG", open("log.filter", "REEF_LOG")),
    // Shown without its password.
    open("database.url", "DATABASE_URL"),
    secret("secrets.key", "REEF_SECRET_KEY"),
    open("operator.email", "REEF_ADMIN_EMAIL"),
    secret("operator.password", "REEF_ADMIN_PASSWORD"),
    open("runtime.kind", "REEF_RUNTIME"),
    open("runtime.allow_unisolated", "REEF_ALLOW_UNISOLATED"),
    open("runtime.warm_pool", "REEF_WARM_POOL"),
    open("process.allow_bare", "REEF_ALLOW_BARE"),
    open("process.network", "REEF_PROCESS_NETWORK"),
    alias("OPENCLAW_IMAGE", open("instance.image", "REEF_INSTANCE_IMAGE")),
    open("instance.offered_images", "REEF_OFFERED_IMAGES"),
    open("instance.openclaw_version", "REEF_OPENCLAW_VERSION"),
    open("instance.openclaw_dir", "REEF_OPENCLAW_DIR"),
    open("instance.bin", "REEF_INSTANCE_BIN"),
    open("instance.restore_window_seconds", "REEF_RESTORE_WINDOW_SECONDS"),
    open("instance.terminal_idle_seconds", "REEF_TERMINAL_IDLE_SECONDS"),
    open("model.base_url", "REEF_MODEL_BASE_URL"),
    secret("model.api_key", "REEF_MODEL_API_KEY"),
    open("model.name", "REEF_MODEL_NAME"),
    open("model.embedding_name", "REEF_MODEL_EMBEDDING_NAME"),
    secret("stripe.secret_key", "STRIPE_SECRET_KEY"),
    secret("stripe.webhook_secret", "STRIPE_WEBHOOK_SECRET"),
    open("stripe.api_base", "STRIPE_API_BASE"),
    open("s3.bucket", "REEF_S3_BUCKET"),
    open("s3.endpoint", "REEF_S3_ENDPOINT"),
    open("s3.region", "REEF_S3_REGION"),
    secret("s3.access_key_id", "AWS_ACCESS_KEY_ID"),
    secret("s3.secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    // Shown without its password.
    open("mail.smtp_url", "REEF_SMTP_URL"),
    open("mail.from", "REEF_MAIL_FROM"),
    alias(
        "NEXT_PUBLIC_ENABLE_OPENCLAW_CONTROLS",
        open("compat.openclaw_controls", "ENABLE_OPENCLAW_CONTROLS"),
    ),
];

/// Settings of what this version does not do yet: read and checked, so that files and units can have them already.
pub(crate) const WITHOUT_EFFECT: &[&str] = &[
    "server.content_url",
    "server.peer_listen",
    "server.peer_url",
    "runtime.warm_pool",
    "instance.openclaw_version",
    "stripe.secret_key",
    "stripe.webhook_secret",
    "stripe.api_base",
    "s3.bucket",
    "s3.endpoint",
    "s3.region",
    "s3.access_key_id",
    "s3.secret_access_key",
    "compat.openclaw_controls",
];

/// Names that begin like ours and are read by the tests and scripts of this tree.
pub(crate) const OTHERS: &[&str] = &["REEF_BIN", "REEF_CONFIG"];
