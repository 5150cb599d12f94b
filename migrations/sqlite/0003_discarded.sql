-- Entries that somebody decided never to send, with who, when and why: an audit does not miss them. Rows are only
-- appended, and leave with their entries.
CREATE TABLE discarded (
  sink            TEXT    NOT NULL,
  id              INTEGER NOT NULL,
  topic           TEXT    NOT NULL,
  event_key       TEXT    NOT NULL,
  error           TEXT    NOT NULL,  -- why the sink had refused it
  discarded_by    TEXT,              -- null: asked for through a version before this one
  reason          TEXT,
  discarded_at_ms INTEGER NOT NULL,
  PRIMARY KEY (sink, id)
) STRICT, WITHOUT ROWID;

-- Who asked for what is to become of a parked entry, and why.
ALTER TABLE parked ADD COLUMN requested_by TEXT;
ALTER TABLE parked ADD COLUMN reason TEXT;
