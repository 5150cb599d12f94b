use crate::audit_log::REPLAY;
use crate::{Change, ChangeFilter, NewChange, Replayed, Store, StoreError};

impl Store {
    /// Records a change that is made outside the database.
    pub async fn note_change(&self, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_change(change, now_ms).await,
            Self::Postgres(postgres) => postgres.note_change(change, now_ms).await,
        }
    }

    /// Returns up to `limit` replays of a release since a time, the latest first.
    pub async fn replays(&self, release: &str, since_ms: i64, limit: u32) -> Result<Vec<Replayed>, StoreError> {
        let filter = ChangeFilter {
            action: Some(REPLAY.to_owned()),
            subject: Some(release.to_owned()),
            since_ms: Some(since_ms),
            by: None,
        };
        let noted = self.changes(&filter, i64::MAX, limit).await?;
        Ok(noted.iter().filter_map(|change| serde_json::from_str(&change.detail).ok()).collect())
    }

    /// Returns up to `limit` changes with numbers below `before`, the latest first.
    pub async fn changes(&self, filter: &ChangeFilter, before: i64, limit: u32) -> Result<Vec<Change>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.changes(filter, before, limit).await,
            Self::Postgres(postgres) => postgres.changes(filter, before, limit).await,
        }
    }
}
