-- Requests that were named with an Idempotency-Key, per credential, and their answers. `status` is null while one runs;
-- `claim` tells whose run it is, `claimed_at` is renewed by it. What is shown once is not in `body`.
CREATE TABLE named_requests (
    credential_id BLOB NOT NULL,
    name TEXT NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    claim BLOB NOT NULL,
    claimed_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    status INTEGER CHECK (status BETWEEN 200 AND 299),
    location TEXT,
    etag TEXT,
    body BLOB,
    PRIMARY KEY (credential_id, name),
    CHECK ((status IS NULL) = (body IS NULL))
) STRICT;
CREATE INDEX named_requests_expires ON named_requests (expires_at);
CREATE INDEX named_requests_user ON named_requests (user_id);
