use std::time::Duration;

use crate::{Store, StoreError};

/// For how long rows are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepFor {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: Duration,
    /// Ids of events and identities of notifications.
    pub inbox: Duration,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: u64,
    /// Rows of the inbox and of the issued identities.
    pub inbox: u64,
}

impl Store {
    /// Remove up to `limit` rows of each kind that are older than they are kept, by the database's clock. Of the log, what a
    /// known sink has not read stays, whatever its age.
    pub async fn retire(&self, keep: KeepFor, now_ms: i64, limit: u32) -> Result<Retired, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire(keep, now_ms, limit).await,
            Self::Postgres(postgres) => postgres.retire(keep, limit).await,
        }
    }
}
