-- A projector that is taken out for good: from this change on no release serves it, until another change lets one.
ALTER TABLE belfry.rollout ADD COLUMN retired boolean NOT NULL DEFAULT false;
