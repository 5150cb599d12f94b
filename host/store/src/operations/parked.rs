use crate::{HeldTopic, NewParkedRequest, Parked, ParkedEntry, ParkedFilter, ParkedLine, Store, StoreError};

impl Store {
    /// Returns the first `limit` parked entries of a sink that must be sent in order.
    pub async fn read_parked(
        &self,
        sink: &str,
        line: ParkedLine<'_>,
        limit: u32,
    ) -> Result<Vec<ParkedEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_parked(sink, line, limit).await,
            Self::Postgres(postgres) => postgres.read_parked(sink, line, limit).await,
        }
    }

    /// Returns up to `limit` parked entries, ordered by position.
    pub async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.parked(filter, limit).await,
            Self::Postgres(postgres) => postgres.parked(filter, limit).await,
        }
    }

    /// Returns the number of entries that are parked at a sink.
    pub async fn count_parked(&self, sink: &str) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.count_parked(sink).await,
            Self::Postgres(postgres) => postgres.count_parked(sink).await,
        }
    }

    /// Returns the topics and keys that a sink's parked entries block.
    pub async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.blocked_keys(sink).await,
            Self::Postgres(postgres) => postgres.blocked_keys(sink).await,
        }
    }

    /// Returns the topics that a sink does not accept.
    pub async fn held_topics(&self, sink: &str) -> Result<Vec<HeldTopic>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.held_topics(sink).await,
            Self::Postgres(postgres) => postgres.held_topics(sink).await,
        }
    }

    /// Records why a topic is still held, and clears the unpark requests for its entries.
    pub async fn keep_held(&self, sink: &str, topic: &str, reason: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_held(sink, topic, reason).await,
            Self::Postgres(postgres) => postgres.keep_held(sink, topic, reason).await,
        }
    }

    /// Ends the hold of a topic if no entry waits for it any more. Returns false and changes nothing if some do, or if
    /// the lease is lost.
    pub async fn lift_hold(&self, sink: &str, epoch: i64, topic: &str) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lift_hold(sink, epoch, topic).await,
            Self::Postgres(postgres) => postgres.lift_hold(sink, epoch, topic).await,
        }
    }

    /// Lets the parked entries of a key wait for their topic, which is held. They are sent in order with the topic's
    /// later entries.
    pub async fn wait_for_topic(
        &self,
        sink: &str,
        topic: &str,
        event_key: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.wait_for_topic(sink, topic, event_key, reason).await,
            Self::Postgres(postgres) => postgres.wait_for_topic(sink, topic, event_key, reason).await,
        }
    }

    /// Returns up to `limit` topics and keys whose parked entries an operator wants to send again.
    pub async fn keys_to_unpark(&self, sink: &str, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keys_to_unpark(sink, limit).await,
            Self::Postgres(postgres) => postgres.keys_to_unpark(sink, limit).await,
        }
    }

    /// Returns up to `limit` positions of parked entries that an operator wants to discard.
    pub async fn to_discard(&self, sink: &str, limit: u32) -> Result<Vec<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.to_discard(sink, limit).await,
            Self::Postgres(postgres) => postgres.to_discard(sink, limit).await,
        }
    }

    /// Requests that the sink's relay unpark or discard parked entries. Unparking applies to all entries of a matching
    /// key, discarding to the matching entries only. Returns the number of entries that the request applies to.
    pub async fn request_parked(
        &self,
        filter: &ParkedFilter,
        request: &NewParkedRequest<'_>,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.request_parked(filter, request, now_ms).await,
            Self::Postgres(postgres) => postgres.request_parked(filter, request, now_ms).await,
        }
    }

    /// Removes parked entries that were sent, and requests an unpark of the entries behind them in their keys. Returns
    /// false and changes nothing if the lease is lost.
    pub async fn forget_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.forget_parked(sink, epoch, positions).await,
            Self::Postgres(postgres) => postgres.forget_parked(sink, epoch, positions).await,
        }
    }

    /// Records that entries are never sent because they have expired, and removes them if they are parked. Returns
    /// false and changes nothing if the lease is lost.
    pub async fn note_expired(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_expired(sink, epoch, positions).await,
            Self::Postgres(postgres) => postgres.note_expired(sink, epoch, positions).await,
        }
    }

    /// Removes parked entries that an operator asked to discard, and records who, when and why. Requests an unpark of
    /// the entries behind them in their keys. Returns false and changes nothing if the lease is lost.
    pub async fn discard_parked(
        &self,
        sink: &str,
        epoch: i64,
        positions: &[i64],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.discard_parked(sink, epoch, positions, now_ms).await,
            Self::Postgres(postgres) => postgres.discard_parked(sink, epoch, positions).await,
        }
    }

    /// Keeps an entry parked that could not be sent again. It gets the new reason and blocks its key, and the key's
    /// unpark requests are cleared.
    pub async fn keep_parked(&self, sink: &str, position: i64, error: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_parked(sink, position, error).await,
            Self::Postgres(postgres) => postgres.keep_parked(sink, position, error).await,
        }
    }
}
