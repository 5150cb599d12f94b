use crate::{KeepFor, Retired, Store, StoreError};

impl Store {
    /// Removes up to `limit` rows of each kind that have exceeded their retention period, by the database's clock. Log
    /// entries that a registered sink has not read are kept, regardless of their age.
    pub async fn retire(&self, keep: KeepFor, now_ms: i64, limit: u32) -> Result<Retired, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire(keep, now_ms, limit).await,
            Self::Postgres(postgres) => postgres.retire(keep, limit).await,
        }
    }
}
