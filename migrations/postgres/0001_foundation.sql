-- Accounts. An address is stored normalised (trimmed, lower case) and is free again once its account is deleted.
CREATE TABLE users (
    id UUID PRIMARY KEY NOT NULL,
    email TEXT NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    name TEXT CHECK (length(name) <= 100),
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'operator')),
    created_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX users_email ON users (email) WHERE deleted_at IS NULL;

-- Browser sessions. The cookie's value is stored hashed; `id` is what the owner sees. Not signed in: no user.
CREATE TABLE sessions (
    id UUID PRIMARY KEY NOT NULL,
    token_hash BYTEA NOT NULL,
    user_id UUID REFERENCES users (id) ON DELETE CASCADE,
    data JSONB NOT NULL,
    ip TEXT,
    user_agent TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX sessions_token_hash ON sessions (token_hash);
CREATE INDEX sessions_user ON sessions (user_id, id);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- API keys. `instance_ids` and `ip_allow`: null is all. A rotation is a new row and an earlier end of the old one.
CREATE TABLE api_keys (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    secret_hash BYTEA NOT NULL CHECK (length(secret_hash) = 32),
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    scopes TEXT NOT NULL,
    instance_ids JSONB,
    ip_allow JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    last_used_ip TEXT
);
CREATE UNIQUE INDEX api_keys_secret_hash ON api_keys (secret_hash);
CREATE INDEX api_keys_user ON api_keys (user_id, id);

-- Invites. Only the hash of a code is kept; `code_hint` is its last group.
CREATE TABLE invites (
    id UUID PRIMARY KEY NOT NULL,
    code_hash BYTEA NOT NULL CHECK (length(code_hash) = 32),
    code_hint TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('instance')),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    max_uses BIGINT NOT NULL CHECK (max_uses > 0),
    uses BIGINT NOT NULL CHECK (uses >= 0 AND uses <= max_uses),
    created_by UUID NOT NULL REFERENCES users (id),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX invites_code_hash ON invites (code_hash);

-- Instances. `desired`, `sleep_target` and `generation` are intent, written by the verbs; from `status` to `retry_at`
-- are facts, written by the reconciler alone.
CREATE TABLE instances (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    runtime TEXT NOT NULL CHECK (runtime IN ('process', 'docker', 'kubernetes', 'host')),
    image TEXT,
    env_enc BYTEA NOT NULL,
    idle_timeout_seconds BIGINT CHECK (idle_timeout_seconds > 0),
    door_token_enc BYTEA NOT NULL,
    gateway_token_enc BYTEA NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'deleted')),
    sleep_target TEXT NOT NULL CHECK (sleep_target IN ('awake', 'paused', 'asleep')),
    generation BIGINT NOT NULL CHECK (generation >= 1),
    deleted_at TIMESTAMPTZ,
    purge_at TIMESTAMPTZ,
    status TEXT NOT NULL CHECK (status IN ('provisioning', 'starting', 'ready', 'stopping', 'stopped', 'updating', 'error', 'deleting', 'deleted')),
    status_reason TEXT,
    power TEXT NOT NULL CHECK (power IN ('running', 'paused', 'stopped')),
    isolation TEXT CHECK (isolation IN ('none', 'landlock', 'bubblewrap', 'container', 'pod')),
    openclaw_version TEXT,
    sandbox_id TEXT,
    observed_generation BIGINT NOT NULL CHECK (observed_generation >= 0),
    started_at TIMESTAMPTZ,
    provisioned_at TIMESTAMPTZ,
    failures BIGINT NOT NULL CHECK (failures >= 0),
    retry_at TIMESTAMPTZ,
    last_active_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CHECK ((desired = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);
CREATE INDEX instances_user ON instances (user_id, id);
CREATE INDEX instances_unsettled ON instances (id) WHERE observed_generation < generation OR status NOT IN ('ready', 'stopped', 'error', 'deleted');
CREATE INDEX instances_retry ON instances (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX instances_purge ON instances (purge_at) WHERE purge_at IS NOT NULL;

-- Rights to hold an instance. Each is one slot: `instance_id` is the instance that holds it, null while it is free.
CREATE TABLE entitlements (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'solo', 'collective', 'label')),
    source TEXT NOT NULL CHECK (source IN ('invite', 'subscription', 'operator')),
    source_id TEXT,
    instance_id UUID REFERENCES instances (id) DEFERRABLE INITIALLY DEFERRED,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX entitlements_instance ON entitlements (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX entitlements_user ON entitlements (user_id, id);

-- Long verbs; at most one runs per instance. `progress` is percent.
CREATE TABLE operations (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id),
    instance_id UUID NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('create', 'start', 'stop', 'restart', 'delete', 'restore')),
    status TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    progress BIGINT NOT NULL CHECK (progress BETWEEN 0 AND 100),
    error JSONB,
    target_generation BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE UNIQUE INDEX operations_running ON operations (instance_id) WHERE status = 'running';
CREATE INDEX operations_user ON operations (user_id, id);
CREATE INDEX operations_instance ON operations (instance_id, id);

-- Who may do a piece of work now. Rows stay after a release, so that `epoch` only grows: it is the fencing token.
CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL CHECK (epoch >= 1),
    expires_at TIMESTAMPTZ NOT NULL
);

-- Counters whose row lock makes a sequence that becomes visible in its own order.
CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('revocations', 0);

-- What lost its rights, in order; polled by every replica.
CREATE TABLE revocations (
    seq BIGINT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'session', 'user')),
    subject_id UUID NOT NULL,
    revoked_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX revocations_revoked ON revocations (revoked_at);

-- What was done by whom. No foreign keys: a record outlives what it speaks of.
CREATE TABLE audit (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('anonymous', 'user', 'key', 'operator', 'system')),
    actor_id TEXT,
    action TEXT NOT NULL,
    target TEXT,
    details JSONB NOT NULL,
    request_id TEXT,
    ip TEXT,
    at TIMESTAMPTZ NOT NULL
);
CREATE INDEX audit_user ON audit (user_id, id);

-- Metered use of models, added up per instance and hour. No foreign keys: usage outlives the instance.
CREATE TABLE model_usage (
    instance_id UUID NOT NULL,
    hour TIMESTAMPTZ NOT NULL,
    user_id UUID NOT NULL,
    requests BIGINT NOT NULL CHECK (requests >= 0),
    estimated_requests BIGINT NOT NULL CHECK (estimated_requests >= 0),
    prompt_tokens BIGINT NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens BIGINT NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (instance_id, hour)
);
CREATE INDEX model_usage_user ON model_usage (user_id, hour);

-- Facts about this deployment.
CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
