//! What an audit compares with the topics, and how far a sink has been served.

use uuid::Uuid;

use crate::{Store, StoreError};

/// A log entry, as far as an audit needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its position in the log.
    pub position: i64,
    /// The id of the event or notification.
    pub event_id: Uuid,
    /// The topic it is published to.
    pub topic: String,
    /// Its key; empty if it has none.
    pub event_key: String,
    /// The event that caused it; `None` if it is an event itself.
    pub source_event_id: Option<Uuid>,
    /// Whether its sink refused it and it is still parked.
    pub parked: bool,
    /// Whether an operator discarded it, so that its sink never gets it.
    pub discarded: bool,
    /// Whether it may have expired by the time it was to be sent.
    pub expired: bool,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// How far a sink has been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReach {
    /// The position at which the sink began. Entries up to here were never intended for it.
    pub began_at: i64,
    /// The position up to which all entries are acknowledged, parked or not to be sent.
    pub position: i64,
}

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
