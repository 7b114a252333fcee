-- Since when an operator keeps the account from being used; null: it is not kept.
ALTER TABLE users ADD COLUMN locked_at TEXT;
