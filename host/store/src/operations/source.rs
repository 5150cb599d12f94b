use crate::{SourcePartition, SourcePosition, Store, StoreError};

impl Store {
    /// Returns the positions of a group's sources; of one topic only, if given.
    pub async fn source_positions(&self, group: &str, topic: Option<&str>) -> Result<Vec<SourcePosition>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.source_positions(group, topic).await,
            Self::Postgres(postgres) => postgres.source_positions(group, topic).await,
        }
    }

    /// Returns the position of a partition. A partition without a position gets `start`.
    pub async fn begin_source(&self, partition: &SourcePartition, start: i64) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_source(partition, start).await,
            Self::Postgres(postgres) => postgres.begin_source(partition, start).await,
        }
    }

    /// Registers partitions atomically: other readers see none of them or all. Partitions that have a position keep it.
    pub async fn begin_sources(&self, starts: &[SourcePosition]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_sources(starts).await,
            Self::Postgres(postgres) => postgres.begin_sources(starts).await,
        }
    }

    /// Records the id of a topic that a group reads, for those of its partitions that have none.
    pub async fn note_topic_id(&self, group: &str, topic: &str, topic_id: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_topic_id(group, topic, topic_id).await,
            Self::Postgres(postgres) => postgres.note_topic_id(group, topic, topic_id).await,
        }
    }

    /// Sets the position of a partition. Its current reader is fenced off and begins there. Returns the previous
    /// position.
    pub async fn set_source_position(
        &self,
        position: &SourcePosition,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.set_source_position(position, by, now_ms).await,
            Self::Postgres(postgres) => postgres.set_source_position(position, by, now_ms).await,
        }
    }
}
