-- What was found out about a component, with the release's configuration, before it was taken; null: by a version before
-- this one.
ALTER TABLE belfry.release ADD COLUMN admission text;

-- Who vouches for a component: detached ed25519 signatures that were checked when they came.
CREATE TABLE belfry.component_signature (
  digest     bytea       NOT NULL REFERENCES belfry.component (digest),
  public_key bytea       NOT NULL,
  signature  bytea       NOT NULL,
  signer     text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (digest, public_key)
);

-- Who may call the API. A token is kept as its hash only, and never deleted: how many there are, and how many of them
-- are revoked, tells whether anything changed.
CREATE TABLE belfry.access_token (
  id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text        NOT NULL,
  role         text        NOT NULL CHECK (role IN ('viewer', 'publisher', 'operator', 'admin')),
  sha256       bytea       NOT NULL UNIQUE,
  created_by   text        NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at   timestamptz,
  last_used_at timestamptz,             -- to a minute
  revoked_at   timestamptz,
  revoked_by   text
);
CREATE UNIQUE INDEX access_token_name ON belfry.access_token (name) WHERE revoked_at IS NULL;

-- Why it was decided, and which release was taken out by it. A release that was taken out with none to go back to stays in
-- its row, and events become dead letters.
ALTER TABLE belfry.rollout ADD COLUMN reason text;
ALTER TABLE belfry.rollout ADD COLUMN suspended_release_id bigint REFERENCES belfry.release (id);

-- What people have brought to a halt: the last row of each counts, the rest is history.
CREATE TABLE belfry.pause (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text        NOT NULL CHECK (kind IN ('projector', 'sink', 'notifications')),
  name       text        NOT NULL,  -- '' = all of them
  reason     text,                  -- null: it goes on
  created_by text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX pause_name ON belfry.pause (kind, name, id);
