//! Pieces of the log by the time at which they were recorded.

use crate::{LogEntry, Store, StoreError};

impl Store {
    /// The position of the last entry recorded before a time; where the log begins, if all of it was recorded later.
    ///
    /// Entries are recorded one group after the other, so their times grow with their positions, and no index is needed.
    pub async fn position_at(&self, time_ms: i64) -> Result<i64, StoreError> {
        let (lowest, highest) = self.log_bounds().await?;
        // All up to the lower bound is older, all above the upper one is not.
        let (mut lower, mut upper) = ((lowest - 1).max(0), highest);
        while lower < upper {
            let middle = lower.midpoint(upper);
            match self.first_after(middle).await? {
                Some((position, recorded_ms)) if position <= upper && recorded_ms < time_ms => lower = position,
                _ => upper = middle,
            }
        }
        Ok(lower)
    }

    /// The first entry after a position, and when it was recorded.
    async fn first_after(&self, position: i64) -> Result<Option<(i64, i64)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.first_after(position).await,
            Self::Postgres(postgres) => postgres.first_after(position).await,
        }
    }

    /// Up to `limit` entries after a position and up to another, events and notifications, in order.
    pub async fn read_log(&self, after: i64, up_to: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_log(after, up_to, limit).await,
            Self::Postgres(postgres) => postgres.read_log(after, up_to, limit).await,
        }
    }

    /// How many events were recorded after a position and up to another.
    pub async fn count_events(&self, after: i64, up_to: i64) -> Result<u64, StoreError> {
        let counted = match self {
            Self::Sqlite(sqlite) => sqlite.count_events(after, up_to).await?,
            Self::Postgres(postgres) => postgres.count_events(after, up_to).await?,
        };
        Ok(counted.unsigned_abs())
    }
}
