-- A role that posts events and reads nothing. SQLite cannot change what a column may hold, so the table is made anew; tokens
-- keep their numbers, and new ones go on from there.
CREATE TABLE access_token_with_producers (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  name            TEXT    NOT NULL,
  role            TEXT    NOT NULL CHECK (role IN ('producer', 'viewer', 'publisher', 'operator', 'admin')),
  sha256          BLOB    NOT NULL UNIQUE,
  created_by      TEXT    NOT NULL,
  created_at_ms   INTEGER NOT NULL,
  expires_at_ms   INTEGER,
  last_used_at_ms INTEGER,           -- to a minute
  revoked_at_ms   INTEGER,
  revoked_by      TEXT
) STRICT;
INSERT INTO access_token_with_producers SELECT id, name, role, sha256, created_by, created_at_ms, expires_at_ms,
       last_used_at_ms, revoked_at_ms, revoked_by FROM access_token;
DROP TABLE access_token;
ALTER TABLE access_token_with_producers RENAME TO access_token;
CREATE UNIQUE INDEX access_token_name ON access_token (name) WHERE revoked_at_ms IS NULL;
