-- A candidate beside the release that serves: each change of either is a row that says all that holds from then on. Without
-- a share nothing of the candidate's is issued, it is only compared; with one it serves so many of 10,000 subjects.
ALTER TABLE rollout ADD COLUMN candidate_id INTEGER REFERENCES release (id);
ALTER TABLE rollout ADD COLUMN candidate_share INTEGER CHECK (candidate_share BETWEEN 1 AND 10000);
ALTER TABLE rollout ADD COLUMN candidate_plan TEXT;     -- JSON: steps and limits
ALTER TABLE rollout ADD COLUMN candidate_step INTEGER;  -- of the plan, from 0

-- What each replica has seen of a candidate since a change, as JSON: sums, and a few masked samples.
CREATE TABLE trial_tally (
  rollout_id    INTEGER NOT NULL REFERENCES rollout (id),
  replica       BLOB    NOT NULL,
  tally         TEXT    NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (rollout_id, replica)
) STRICT, WITHOUT ROWID;
