-- A projector that is taken out for good: from this change on no release serves it, until another change lets one.
ALTER TABLE rollout ADD COLUMN retired INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1));
