use uuid::Uuid;

use crate::{Store, StoreError, Trial, TrialChange};

impl Store {
    /// Changes the release that serves or the candidate, unless another change was made in the meantime. Returns
    /// whether it did.
    pub async fn change_trial(&self, change: &TrialChange<'_>, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.change_trial(change, now_ms).await,
            Self::Postgres(postgres) => postgres.change_trial(change, now_ms).await,
        }
    }

    /// Stores what a replica has observed since a change. Replaces what the replica stored for the same change before.
    pub async fn keep_tally(&self, rollout_id: i64, replica: Uuid, tally: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_tally(rollout_id, replica, tally, now_ms).await,
            Self::Postgres(postgres) => postgres.keep_tally(rollout_id, replica, tally, now_ms).await,
        }
    }

    /// Returns the last trial of a projector, if there was one.
    pub async fn trial(&self, projector: &str) -> Result<Option<Trial>, StoreError> {
        let (rollouts, tallies) = match self {
            Self::Sqlite(sqlite) => sqlite.trial(projector).await?,
            Self::Postgres(postgres) => postgres.trial(projector).await?,
        };
        Ok(Trial::of(rollouts, tallies))
    }
}
