-- A parked entry outlives its row in the log: it carries all that its sink needs. The table has row ids, for its rows may be
-- large.
CREATE TABLE parked_with_entry (
  sink            TEXT    NOT NULL,
  topic           TEXT    NOT NULL,
  event_key       TEXT    NOT NULL,
  id              INTEGER NOT NULL,
  error           TEXT    NOT NULL,
  request         TEXT    CHECK (request IN ('unpark', 'discard')),
  parked_at_ms    INTEGER NOT NULL,
  requested_by    TEXT,
  reason          TEXT,
  -- What is blocked: its key only, or its topic, of which the sink takes nothing.
  scope           TEXT    NOT NULL DEFAULT 'key' CHECK (scope IN ('key', 'topic')),
  event_id        BLOB,
  payload         BLOB,
  headers         BLOB,
  source_event_id BLOB,              -- of a notification
  expires_at_ms   INTEGER,           -- of a notification: not sent after this
  recorded_at_ms  INTEGER,
  PRIMARY KEY (sink, topic, event_key, id)
) STRICT;
INSERT INTO parked_with_entry
  SELECT p.sink, p.topic, p.event_key, p.id, p.error, p.request, p.parked_at_ms, p.requested_by, p.reason, 'key',
         o.event_id, o.payload, o.headers, o.source_event_id, o.expires_at_ms, o.created_at_ms
    FROM parked p LEFT JOIN outbox o ON o.id = p.id;
DROP TABLE parked;
ALTER TABLE parked_with_entry RENAME TO parked;
CREATE INDEX parked_id ON parked (id);
CREATE INDEX parked_by_key ON parked (sink, topic, event_key) WHERE scope = 'key';
CREATE INDEX parked_by_topic ON parked (sink, topic, id) WHERE scope = 'topic';
CREATE INDEX parked_asked_for ON parked (sink, request, topic, event_key) WHERE request IS NOT NULL;

-- Topics of which a sink takes nothing: their entries are parked, in order, until it does.
CREATE TABLE held_topic (
  sink     TEXT    NOT NULL,
  topic    TEXT    NOT NULL,
  reason   TEXT    NOT NULL,
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (sink, topic)
) STRICT, WITHOUT ROWID;

-- When a sink had acknowledged what: an upper bound of each entry's time of publication. Rows leave with their entries.
CREATE TABLE relay_checkpoint (
  sink        TEXT    NOT NULL,
  upto_id     INTEGER NOT NULL,
  acked_at_ms INTEGER NOT NULL,
  PRIMARY KEY (sink, upto_id)
) STRICT, WITHOUT ROWID;

-- Entries that were sent later than those behind them, and entries that were never sent, with the reason. Of neither it
-- follows from relay_checkpoint what became of it.
CREATE TABLE unparked (
  sink       TEXT    NOT NULL,
  id         INTEGER NOT NULL,
  sent_at_ms INTEGER NOT NULL,
  withheld   TEXT,
  PRIMARY KEY (sink, id)
) STRICT, WITHOUT ROWID;

-- Since when no replica serves the sink: set when its lease was given back in good order, and null while one does.
ALTER TABLE relay ADD COLUMN off_since_ms INTEGER;
