-- How far each source has been read.
CREATE TABLE consumer_position (
  consumer_group TEXT    NOT NULL,
  topic          TEXT    NOT NULL,
  partition      INTEGER NOT NULL,
  next_offset    INTEGER NOT NULL,
  PRIMARY KEY (consumer_group, topic, partition)
) STRICT, WITHOUT ROWID;

-- How far each sink has been served, and who serves it. There is one process only, yet its relays end and begin again.
ALTER TABLE relay ADD COLUMN owner BLOB;
ALTER TABLE relay ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE relay ADD COLUMN lease_until_ms INTEGER NOT NULL DEFAULT 0;

-- Entries that a sink refused, and those of their key behind them.
CREATE TABLE parked (
  sink         TEXT    NOT NULL,
  topic        TEXT    NOT NULL,
  event_key    TEXT    NOT NULL,
  id           INTEGER NOT NULL,
  error        TEXT    NOT NULL,
  request      TEXT    CHECK (request IN ('unpark', 'discard')),
  parked_at_ms INTEGER NOT NULL,
  PRIMARY KEY (sink, topic, event_key, id)
) STRICT, WITHOUT ROWID;
-- Counts what operators asked for, so that a relay notices.
CREATE TABLE parked_request (asked INTEGER NOT NULL) STRICT;
INSERT INTO parked_request VALUES (0);

-- A dead letter may be a record that is no event: no projector saw it, and perhaps it has no id.
CREATE TABLE dead_letter_of_both (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id         BLOB,
  projector        TEXT,
  release_id       INTEGER,
  cause            TEXT    NOT NULL,
  detail           TEXT    NOT NULL,
  source_topic     TEXT,              -- of a record: where it came from
  source_partition INTEGER,
  source_offset    INTEGER,
  payload          BLOB,              -- of a record: its value
  created_at_ms    INTEGER NOT NULL
) STRICT;
INSERT INTO dead_letter_of_both (id, event_id, projector, release_id, cause, detail, created_at_ms)
  SELECT id, event_id, projector, release_id, cause, detail, created_at_ms FROM dead_letter;
DROP TABLE dead_letter;
ALTER TABLE dead_letter_of_both RENAME TO dead_letter;
CREATE INDEX dead_letter_event ON dead_letter (event_id);
