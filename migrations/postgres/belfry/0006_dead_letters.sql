-- What became of a dead letter; all null while it waits. One that was given another try names the notifications that came
-- of it, which stand together in the log.
ALTER TABLE belfry.dead_letter ADD COLUMN settled        text CHECK (settled IN ('redriven', 'discarded'));
ALTER TABLE belfry.dead_letter ADD COLUMN settled_by     text;
ALTER TABLE belfry.dead_letter ADD COLUMN settled_at     timestamptz;
ALTER TABLE belfry.dead_letter ADD COLUMN settled_reason text;               -- of one that was discarded
ALTER TABLE belfry.dead_letter ADD COLUMN first_position bigint;
ALTER TABLE belfry.dead_letter ADD COLUMN notifications  int;
CREATE INDEX dead_letter_waiting ON belfry.dead_letter (projector, id) WHERE settled IS NULL;
