CREATE TABLE sessions (
    id BLOB PRIMARY KEY,
    title TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    message_count INTEGER NOT NULL DEFAULT 0,
    last_event_id INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE turns (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    status TEXT NOT NULL
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled', 'interrupted')),
    -- The gateway's run; another one when the gateway resumed it by itself after a restart.
    run_id TEXT NOT NULL,
    -- The request as JSON, until the turn has ended.
    request TEXT,
    -- Whether the request may have reached the gateway.
    sent INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    usage TEXT,
    error TEXT,
    last_event_id INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;
CREATE INDEX turns_open ON turns (session_id, seq) WHERE status IN ('queued', 'running');
CREATE INDEX turns_of_run ON turns (run_id);

-- Append only. AUTOINCREMENT: an id is never used twice, not even after a session was deleted.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    turn_id BLOB NOT NULL,
    name TEXT NOT NULL,
    -- A message's first event, and a turn's last: what a follower sees without `deltas`.
    is_kept INTEGER NOT NULL,
    is_terminal INTEGER NOT NULL,
    message_id BLOB,
    data TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_one_end ON events (turn_id) WHERE is_terminal = 1;
CREATE UNIQUE INDEX events_message ON events (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX events_of_session ON events (session_id, id);
CREATE INDEX events_kept ON events (session_id, id) WHERE is_kept = 1;
CREATE INDEX events_of_turn ON events (turn_id, id);

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    target BLOB NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

-- Sessions that are deleted here and not yet in the gateway.
CREATE TABLE forgotten (session_id BLOB PRIMARY KEY) STRICT;

PRAGMA user_version = 1;
