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
