-- What became of a dead letter; all null while it waits. One that was given another try names the notifications that came
-- of it, which stand together in the log.
ALTER TABLE dead_letter ADD COLUMN settled        TEXT CHECK (settled IN ('redriven', 'discarded'));
ALTER TABLE dead_letter ADD COLUMN settled_by     TEXT;
ALTER TABLE dead_letter ADD COLUMN settled_at_ms  INTEGER;
ALTER TABLE dead_letter ADD COLUMN settled_reason TEXT;                      -- of one that was discarded
ALTER TABLE dead_letter ADD COLUMN first_position INTEGER;
ALTER TABLE dead_letter ADD COLUMN notifications  INTEGER;
CREATE INDEX dead_letter_waiting ON dead_letter (projector, id) WHERE settled IS NULL;
