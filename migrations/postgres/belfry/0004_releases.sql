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
