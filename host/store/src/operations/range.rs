use crate::{LogEntry, Store, StoreError};

impl Store {
    /// Returns the position of the last entry recorded before a time. If all entries were recorded later, returns the
    /// position before the first entry.
    ///
    /// Groups are recorded one after another, so recording times increase with positions, and no index is needed.
    pub async fn position_at(&self, time_ms: i64) -> Result<i64, StoreError> {
        let (lowest, highest) = self.log_bounds().await?;
        // All entries up to the lower bound are older than the time, and all entries above the upper bound are not.
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

    /// Returns the position and the recording time of the first entry after a position.
    async fn first_after(&self, position: i64) -> Result<Option<(i64, i64)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.first_after(position).await,
            Self::Postgres(postgres) => postgres.first_after(position).await,
        }
    }

    /// Returns up to `limit` entries with positions above `after` and up to `up_to`, events and notifications, in
    /// order.
    pub async fn read_log(&self, after: i64, up_to: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_log(after, up_to, limit).await,
            Self::Postgres(postgres) => postgres.read_log(after, up_to, limit).await,
        }
    }

    /// Returns the number of events with positions above `after` and up to `up_to`.
    pub async fn count_events(&self, after: i64, up_to: i64) -> Result<u64, StoreError> {
        let counted = match self {
            Self::Sqlite(sqlite) => sqlite.count_events(after, up_to).await?,
            Self::Postgres(postgres) => postgres.count_events(after, up_to).await?,
        };
        Ok(counted.unsigned_abs())
    }
}
