use uuid::Uuid;

use crate::{AuditEntry, SinkReach, Store, StoreError};

impl Store {
    /// Returns how far a sink has been served, if it is registered.
    pub async fn sink_reach(&self, sink: &str) -> Result<Option<SinkReach>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sink_reach(sink).await,
            Self::Postgres(postgres) => postgres.sink_reach(sink).await,
        }
    }

    /// Returns the first position that was recorded at this time or later.
    pub async fn first_position_since(&self, ms: i64) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.first_position_since(ms).await,
            Self::Postgres(postgres) => postgres.first_position_since(ms).await,
        }
    }

    /// Returns up to `limit` entries that have a topic, with positions above `after` and up to `up_to`, in order,
    /// without their content. `now_ms` is for a store that does not record when its sinks acknowledged entries.
    pub async fn read_audit(
        &self,
        sink: &str,
        after: i64,
        up_to: i64,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_audit(sink, after, up_to, limit, now_ms).await,
            Self::Postgres(postgres) => postgres.read_audit(sink, after, up_to, limit).await,
        }
    }

    /// Returns those of these ids that are in the log, or that have left it and are still recorded as taken or issued.
    pub async fn taken_or_issued(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.taken_or_issued(ids).await,
            Self::Postgres(postgres) => postgres.taken_or_issued(ids).await,
        }
    }
}
