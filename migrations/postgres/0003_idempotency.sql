-- Requests that were named with an Idempotency-Key, per credential, and their answers. `status` is null while one runs;
-- `claim` tells whose run it is, `claimed_at` is renewed by it. What is shown once is not in `body`.
CREATE TABLE named_requests (
    credential_id UUID NOT NULL,
    name TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    claim UUID NOT NULL,
    claimed_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    status BIGINT CHECK (status BETWEEN 200 AND 299),
    location TEXT,
    etag TEXT,
    body BYTEA,
    PRIMARY KEY (credential_id, name),
    CHECK ((status IS NULL) = (body IS NULL))
);
CREATE INDEX named_requests_expires ON named_requests (expires_at);
CREATE INDEX named_requests_user ON named_requests (user_id);
