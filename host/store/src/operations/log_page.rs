use crate::{LogEntry, LogPage, Store, StoreError};

impl Store {
    /// Returns the lowest position still in the log and the highest position ever assigned, or 0 for both if the log
    /// has always been empty. If all entries were retired, the lowest is one more than the highest.
    pub async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.log_bounds().await,
            Self::Postgres(postgres) => postgres.log_bounds().await,
        }
    }

    /// Returns up to `limit` entries after a position that have a topic.
    pub async fn read_relay(&self, after: i64, limit: u32) -> Result<LogPage, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_relay(after, limit).await,
            Self::Postgres(postgres) => postgres.read_relay(after, limit).await,
        }
    }

    /// Returns up to `limit` notifications with positions above `after` and up to `up_to`, in order; of one recipient
    /// only, if given. The size of the page in bytes is limited as well, so only an empty page means that there are no
    /// more.
    pub async fn read_notifications(
        &self,
        after: i64,
        up_to: i64,
        limit: u32,
        recipient: Option<&str>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_notifications(after, up_to, limit, recipient).await,
            Self::Postgres(postgres) => postgres.read_notifications(after, up_to, limit, recipient).await,
        }
    }
}
