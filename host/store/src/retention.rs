use std::time::Duration;

use crate::{Store, StoreError};

/// Retention periods.
#[derive(Clone, Copy, Debug)]
pub struct KeepFor {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: Duration,
    /// Ids of events, and identities of notifications.
    pub inbox: Duration,
}

/// Numbers of rows that retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: u64,
    /// Rows of the inbox and issued identities.
    pub inbox: u64,
}

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
