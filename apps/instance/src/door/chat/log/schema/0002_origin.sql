-- Runs that did not start in the door, and the sessions that they are in.
ALTER TABLE sessions ADD COLUMN origin TEXT;
-- The gateway's name of the session; none: the door's own, which is made of the id.
ALTER TABLE sessions ADD COLUMN gateway_key TEXT;
CREATE UNIQUE INDEX sessions_of_key ON sessions (gateway_key) WHERE gateway_key IS NOT NULL;
ALTER TABLE forgotten ADD COLUMN gateway_key TEXT;

ALTER TABLE turns ADD COLUMN origin TEXT;
-- Whether the deltas were removed, or there were none.
ALTER TABLE turns ADD COLUMN is_pruned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX turns_unpruned ON turns (seq) WHERE is_pruned = 0 AND ended_at IS NOT NULL;

-- Names of requests are each caller's own.
DROP TABLE idempotency;
CREATE TABLE idempotency (
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    target BLOB NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);

PRAGMA user_version = 2;
