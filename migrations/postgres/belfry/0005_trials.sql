-- A candidate beside the release that serves: each change of either is a row that says all that holds from then on. Without
-- a share nothing of the candidate's is issued, it is only compared; with one it serves so many of 10,000 subjects.
ALTER TABLE belfry.rollout ADD COLUMN candidate_id bigint REFERENCES belfry.release (id);
ALTER TABLE belfry.rollout ADD COLUMN candidate_share int CHECK (candidate_share BETWEEN 1 AND 10000);
ALTER TABLE belfry.rollout ADD COLUMN candidate_plan text;  -- JSON: steps and limits
ALTER TABLE belfry.rollout ADD COLUMN candidate_step int;   -- of the plan, from 0

-- What each replica has seen of a candidate since a change, as JSON: sums, and a few masked samples.
CREATE TABLE belfry.trial_tally (
  rollout_id bigint      NOT NULL REFERENCES belfry.rollout (id),
  replica    uuid        NOT NULL,
  tally      text        NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (rollout_id, replica)
);
