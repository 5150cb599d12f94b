-- Times are milliseconds since 1970-01-01T00:00:00Z. Ids of events and notifications are the 16 bytes of a UUID.

-- The log. Rows are only appended, and retired by age. BEGIN IMMEDIATE is the order lock: a visible id means that all
-- lower ones are decided. AUTOINCREMENT never gives an id twice, even after the last row was retired. An event's
-- notifications follow it directly.
--
-- It has no index: random ids would dirty a page each, and that is most of what a commit writes. Who looks for an id
-- finds its position in the inbox or among the issued.
CREATE TABLE outbox (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id        BLOB    NOT NULL,
  event_type      TEXT    NOT NULL,
  aggregate_type  TEXT    NOT NULL,
  aggregate_id    TEXT    NOT NULL,
  topic           TEXT,              -- null: recorded only, never published
  event_key       TEXT    NOT NULL,  -- '' = none
  payload         BLOB    NOT NULL,
  headers         BLOB    NOT NULL,
  source_event_id BLOB,              -- of a notification
  release_id      INTEGER,           -- of a notification
  projections     BLOB,              -- of an event: what each projector made of it, silence included
  expires_at_ms   INTEGER,           -- of a notification: not sent after this
  created_at_ms   INTEGER NOT NULL
) STRICT;

-- Both make repetition harmless, and tell where in the log an id stands. Rows leave by the time of receipt, which their
-- positions follow.
CREATE TABLE inbox (
  position       INTEGER PRIMARY KEY,
  event_id       BLOB    NOT NULL UNIQUE,
  content_hash   BLOB    NOT NULL,
  received_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE issued (
  position        INTEGER PRIMARY KEY,
  notification_id BLOB    NOT NULL UNIQUE,
  received_at_ms  INTEGER NOT NULL
) STRICT;

-- Notifications deliberately not sent, with the reason.
CREATE TABLE withheld (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  notification_id BLOB    NOT NULL,
  source_event_id BLOB    NOT NULL,
  release_id      INTEGER NOT NULL,
  recipient       TEXT    NOT NULL,
  reason          TEXT    NOT NULL,
  created_at_ms   INTEGER NOT NULL
) STRICT;
CREATE INDEX withheld_notification ON withheld (notification_id);
CREATE INDEX withheld_source ON withheld (source_event_id);

-- Events that a projector could not project.
CREATE TABLE dead_letter (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id      BLOB    NOT NULL,
  projector     TEXT    NOT NULL,
  release_id    INTEGER NOT NULL,
  cause         TEXT    NOT NULL,
  detail        TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letter_event ON dead_letter (event_id);

CREATE TABLE component (
  digest        BLOB    NOT NULL PRIMARY KEY,  -- SHA-256 of the bytes
  bytes         BLOB    NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

-- A release is a component and a configuration. Immutable.
CREATE TABLE release (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  projector     TEXT    NOT NULL,
  version       TEXT    NOT NULL,
  digest        BLOB    NOT NULL REFERENCES component (digest),
  config        TEXT    NOT NULL,              -- canonical JSON object
  description   TEXT    NOT NULL,              -- what the component says of itself, as JSON
  note          TEXT    NOT NULL,
  created_by    TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL,
  UNIQUE (projector, version, config)
) STRICT;

-- Which release serves a projector: the last row of each projector counts, the rest is history.
CREATE TABLE rollout (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  projector     TEXT    NOT NULL,
  release_id    INTEGER NOT NULL REFERENCES release (id),
  created_by    TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX rollout_projector ON rollout (projector, id);

-- How far each sink has read.
CREATE TABLE relay (
  sink     TEXT    NOT NULL PRIMARY KEY,
  position INTEGER NOT NULL
) STRICT;
