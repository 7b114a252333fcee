-- Accounts. An address is stored normalised (trimmed, lower case) and is free again once its account is deleted.
CREATE TABLE users (
    id BLOB PRIMARY KEY NOT NULL,
    email TEXT NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    name TEXT CHECK (length(name) <= 100),
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'operator')),
    created_at TEXT NOT NULL,
    deleted_at TEXT
) STRICT;
CREATE UNIQUE INDEX users_email ON users (email) WHERE deleted_at IS NULL;

-- Browser sessions. The cookie's value is stored hashed; `id` is what the owner sees. Not signed in: no user.
CREATE TABLE sessions (
    id BLOB PRIMARY KEY NOT NULL,
    token_hash BLOB NOT NULL,
    user_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    data TEXT NOT NULL,
    ip TEXT,
    user_agent TEXT,
    created_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX sessions_token_hash ON sessions (token_hash);
CREATE INDEX sessions_user ON sessions (user_id, id);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- API keys. `instance_ids` and `ip_allow`: null is all. A rotation is a new row and an earlier end of the old one.
CREATE TABLE api_keys (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    scopes TEXT NOT NULL,
    instance_ids TEXT,
    ip_allow TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT,
    last_used_ip TEXT
) STRICT;
CREATE UNIQUE INDEX api_keys_secret_hash ON api_keys (secret_hash);
CREATE INDEX api_keys_user ON api_keys (user_id, id);

-- Invites. Only the hash of a code is kept; `code_hint` is its last group.
CREATE TABLE invites (
    id BLOB PRIMARY KEY NOT NULL,
    code_hash BLOB NOT NULL CHECK (length(code_hash) = 32),
    code_hint TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('instance')),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    max_uses INTEGER NOT NULL CHECK (max_uses > 0),
    uses INTEGER NOT NULL CHECK (uses >= 0 AND uses <= max_uses),
    created_by BLOB NOT NULL REFERENCES users (id),
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT
) STRICT;
CREATE UNIQUE INDEX invites_code_hash ON invites (code_hash);

-- Instances. `desired`, `sleep_target` and `generation` are intent, written by the verbs; from `status` to `retry_at`
-- are facts, written by the reconciler alone.
CREATE TABLE instances (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    runtime TEXT NOT NULL CHECK (runtime IN ('process', 'docker', 'kubernetes', 'host')),
    image TEXT,
    env_enc BLOB NOT NULL,
    idle_timeout_seconds INTEGER CHECK (idle_timeout_seconds > 0),
    door_token_enc BLOB NOT NULL,
    gateway_token_enc BLOB NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'deleted')),
    sleep_target TEXT NOT NULL CHECK (sleep_target IN ('awake', 'paused', 'asleep')),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    deleted_at TEXT,
    purge_at TEXT,
    status TEXT NOT NULL CHECK (status IN ('provisioning', 'starting', 'ready', 'stopping', 'stopped', 'updating', 'error', 'deleting', 'deleted')),
    status_reason TEXT,
    power TEXT NOT NULL CHECK (power IN ('running', 'paused', 'stopped')),
    isolation TEXT CHECK (isolation IN ('none', 'landlock', 'bubblewrap', 'container', 'pod')),
    openclaw_version TEXT,
    sandbox_id TEXT,
    observed_generation INTEGER NOT NULL CHECK (observed_generation >= 0),
    started_at TEXT,
    provisioned_at TEXT,
    failures INTEGER NOT NULL CHECK (failures >= 0),
    retry_at TEXT,
    last_active_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CHECK ((desired = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
) STRICT;
CREATE INDEX instances_user ON instances (user_id, id);
CREATE INDEX instances_unsettled ON instances (id) WHERE observed_generation < generation OR status NOT IN ('ready', 'stopped', 'error', 'deleted');
CREATE INDEX instances_retry ON instances (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX instances_purge ON instances (purge_at) WHERE purge_at IS NOT NULL;

-- Rights to hold an instance. Each is one slot: `instance_id` is the instance that holds it, null while it is free.
CREATE TABLE entitlements (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    source TEXT NOT NULL CHECK (source IN ('invite', 'subscription', 'operator')),
    source_id TEXT,
    instance_id BLOB REFERENCES instances (id) DEFERRABLE INITIALLY DEFERRED,
    created_at TEXT NOT NULL,
    expires_at TEXT
) STRICT;
CREATE UNIQUE INDEX entitlements_instance ON entitlements (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX entitlements_user ON entitlements (user_id, id);

-- Long verbs; at most one runs per instance. `progress` is percent.
CREATE TABLE operations (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id),
    instance_id BLOB NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('create', 'start', 'stop', 'restart', 'delete', 'restore')),
    status TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    progress INTEGER NOT NULL CHECK (progress BETWEEN 0 AND 100),
    error TEXT,
    target_generation INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    CHECK ((status = 'running') = (finished_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX operations_running ON operations (instance_id) WHERE status = 'running';
CREATE INDEX operations_user ON operations (user_id, id);
CREATE INDEX operations_instance ON operations (instance_id, id);

-- Who may do a piece of work now. Rows stay after a release, so that `epoch` only grows: it is the fencing token.
CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    expires_at TEXT NOT NULL
) STRICT;

-- Counters whose row lock makes a sequence that becomes visible in its own order.
CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('revocations', 0);

-- What lost its rights, in order; polled by every replica.
CREATE TABLE revocations (
    seq INTEGER PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'session', 'user')),
    subject_id BLOB NOT NULL,
    revoked_at TEXT NOT NULL
) STRICT;
CREATE INDEX revocations_revoked ON revocations (revoked_at);

-- What was done by whom. No foreign keys: a record outlives what it speaks of.
CREATE TABLE audit (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('anonymous', 'user', 'key', 'operator', 'system')),
    actor_id TEXT,
    action TEXT NOT NULL,
    target TEXT,
    details TEXT NOT NULL,
    request_id TEXT,
    ip TEXT,
    at TEXT NOT NULL
) STRICT;
CREATE INDEX audit_user ON audit (user_id, id);

-- Metered use of models, added up per instance and hour. No foreign keys: usage outlives the instance.
CREATE TABLE model_usage (
    instance_id BLOB NOT NULL,
    hour TEXT NOT NULL,
    user_id BLOB NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    estimated_requests INTEGER NOT NULL CHECK (estimated_requests >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (instance_id, hour)
) STRICT;
CREATE INDEX model_usage_user ON model_usage (user_id, hour);

-- Facts about this deployment.
CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;
