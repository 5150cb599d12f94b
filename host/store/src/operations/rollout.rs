use crate::{NewChange, Release, Rollout, Store, StoreError};

impl Store {
    /// Activates releases for their projectors: all of them, or none.
    pub async fn activate(&self, releases: &[&Release], created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        let activated = releases.iter().map(|release| (*release, NewChange::activated(release, created_by)));
        let changes: Vec<_> = activated.collect();
        self.serve(&changes, now_ms).await
    }

    /// Activates the release again that served its projector before.
    pub async fn roll_back(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        self.serve(&[(release, NewChange::rolled_back(release, created_by))], now_ms).await
    }

    /// Suspends a release if it still serves: the previous release serves again, or none. Returns whether it was
    /// suspended.
    pub async fn suspend(&self, release: &Release, reason: &str, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.suspend(release, reason, now_ms).await,
            Self::Postgres(postgres) => postgres.suspend(release, reason, now_ms).await,
        }
    }

    /// Activates a release, unless any release serves or has served.
    pub async fn activate_first(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activate_first(release, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.activate_first(release, created_by, now_ms).await,
        }
    }

    /// Retires a projector, unless it has changed since `rollout`: no release serves it any more. Returns whether it
    /// was retired.
    pub async fn retire_projector(
        &self,
        rollout: &Rollout,
        reason: &str,
        created_by: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire_projector(rollout, reason, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.retire_projector(rollout, reason, created_by, now_ms).await,
        }
    }

    /// Returns the current rollout of each projector, ordered by name. Retired projectors are included.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rollouts().await,
            Self::Postgres(postgres) => postgres.rollouts().await,
        }
    }

    async fn serve(&self, changes: &[(&Release, NewChange)], now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.serve(changes, now_ms).await,
            Self::Postgres(postgres) => postgres.serve(changes, now_ms).await,
        }
    }
}
