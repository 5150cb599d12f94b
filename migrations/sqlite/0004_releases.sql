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
