-- When the address was last proven to be its holder's; null: never.
ALTER TABLE users ADD COLUMN email_verified_at TIMESTAMPTZ;

-- Tokens that were mailed, by their hash: good once. `email` is the address that holding one proves.
CREATE TABLE account_tokens (
    token_hash BYTEA PRIMARY KEY NOT NULL CHECK (length(token_hash) = 32),
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    email TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX account_tokens_user ON account_tokens (user_id, purpose);
CREATE INDEX account_tokens_expires ON account_tokens (expires_at);

-- From where an account was signed in to: a hash of browser and network, to tell its holder of a new one.
CREATE TABLE sign_in_places (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    place_hash BYTEA NOT NULL CHECK (length(place_hash) = 32),
    last_seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, place_hash)
);
CREATE INDEX sign_in_places_seen ON sign_in_places (last_seen_at);

-- Mail on its way, written in the transaction of what caused it and removed once it is sent. `next_attempt_at` is also
-- the claim's end; null: given up, the letter is gone and the row tells of it. No foreign key: a mail outlives its cause.
CREATE TABLE mails (
    id UUID PRIMARY KEY NOT NULL,
    user_id UUID,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    letter_enc BYTEA,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    next_attempt_at TIMESTAMPTZ,
    last_error TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    deadline_at TIMESTAMPTZ NOT NULL,
    CHECK ((letter_enc IS NULL) = (next_attempt_at IS NULL))
);
CREATE INDEX mails_due ON mails (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX mails_user ON mails (user_id);

