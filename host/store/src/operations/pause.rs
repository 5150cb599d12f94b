use crate::{Pause, Paused, Store, StoreError};

impl Store {
    /// Returns the pauses that are in effect.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pauses().await,
            Self::Postgres(postgres) => postgres.pauses().await,
        }
    }

    /// Pauses something, with a reason, or resumes it.
    pub async fn pause(
        &self,
        what: &Paused,
        reason: Option<&str>,
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pause(what, reason, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.pause(what, reason, created_by, now_ms).await,
        }
    }
}
