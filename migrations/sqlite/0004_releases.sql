-- What was found out about a component, with the release's configuration, before it was taken; null: by a version before
-- this one.
ALTER TABLE release ADD COLUMN admission TEXT;

-- Who vouches for a component: detached ed25519 signatures that were checked when they came.
CREATE TABLE component_signature (
  digest        BLOB    NOT NULL REFERENCES component (digest),
  public_key    BLOB    NOT NULL,
  signature     BLOB    NOT NULL,
  signer        TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (digest, public_key)
) STRICT, WITHOUT ROWID;

-- Who may call the API. A token is kept as its hash only, and never deleted: how many there are, and how many of them
-- are revoked, tells whether anything changed.
CREATE TABLE access_token (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  name            TEXT    NOT NULL,
  role            TEXT    NOT NULL CHECK (role IN ('viewer', 'publisher', 'operator', 'admin')),
  sha256          BLOB    NOT NULL UNIQUE,
  created_by      TEXT    NOT NULL,
  created_at_ms   INTEGER NOT NULL,
  expires_at_ms   INTEGER,
  last_used_at_ms INTEGER,           -- to a minute
  revoked_at_ms   INTEGER,
  revoked_by      TEXT
) STRICT;
CREATE UNIQUE INDEX access_token_name ON access_token (name) WHERE revoked_at_ms IS NULL;

-- Why it was decided, and which release was taken out by it. A release that was taken out with none to go back to stays in
-- its row, and events become dead letters.
ALTER TABLE rollout ADD COLUMN reason TEXT;
ALTER TABLE rollout ADD COLUMN suspended_release_id INTEGER REFERENCES release (id);

-- What people have brought to a halt: the last row of each counts, the rest is history.
CREATE TABLE pause (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  kind          TEXT    NOT NULL CHECK (kind IN ('projector', 'sink', 'notifications')),
  name          TEXT    NOT NULL,  -- '' = all of them
  reason        TEXT,              -- null: it goes on
  created_by    TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pause_name ON pause (kind, name, id);
