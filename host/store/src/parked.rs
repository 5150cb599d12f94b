//! Entries that a sink refused, and topics of which it takes nothing.

use crate::{HeldTopic, NewParkedRequest, Parked, ParkedEntry, ParkedFilter, ParkedLine, Store, StoreError};

impl Store {
    /// Up to `limit` parked entries of a sink that have to be sent in order, the first ones.
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

    /// Parked entries by position, `limit` at most.
    pub async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.parked(filter, limit).await,
            Self::Postgres(postgres) => postgres.parked(filter, limit).await,
        }
    }

    /// How many entries are parked at a sink.
    pub async fn count_parked(&self, sink: &str) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.count_parked(sink).await,
            Self::Postgres(postgres) => postgres.count_parked(sink).await,
        }
    }

    /// The topics and keys that a sink's parked entries block.
    pub async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.blocked_keys(sink).await,
            Self::Postgres(postgres) => postgres.blocked_keys(sink).await,
        }
    }

    /// The topics of which a sink takes nothing.
    pub async fn held_topics(&self, sink: &str) -> Result<Vec<HeldTopic>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.held_topics(sink).await,
            Self::Postgres(postgres) => postgres.held_topics(sink).await,
        }
    }

    /// A topic is still held, for this reason; what was asked for its entries is done with that.
    pub async fn keep_held(&self, sink: &str, topic: &str, reason: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_held(sink, topic, reason).await,
            Self::Postgres(postgres) => postgres.keep_held(sink, topic, reason).await,
        }
    }

    /// Hold a topic no longer, if no entry waits for it any more. Returns false, and does nothing, if some do or the lease is
    /// gone.
    pub async fn lift_hold(&self, sink: &str, epoch: i64, topic: &str) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lift_hold(sink, epoch, topic).await,
            Self::Postgres(postgres) => postgres.lift_hold(sink, epoch, topic).await,
        }
    }

    /// What blocks a key of a held topic waits for that topic, in order, with what comes of it later.
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

    /// Up to `limit` topics and keys of which an operator wants the parked entries sent again.
    pub async fn keys_to_unpark(&self, sink: &str, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keys_to_unpark(sink, limit).await,
            Self::Postgres(postgres) => postgres.keys_to_unpark(sink, limit).await,
        }
    }

    /// Up to `limit` positions of parked entries that an operator wants discarded.
    pub async fn to_discard(&self, sink: &str, limit: u32) -> Result<Vec<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.to_discard(sink, limit).await,
            Self::Postgres(postgres) => postgres.to_discard(sink, limit).await,
        }
    }

    /// Ask the relay of the sink to do something with parked entries. Unparking is for all of a key, discarding for the
    /// entries meant. Returns how many are meant.
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

    /// Forget parked entries that were sent; what stood behind them in their keys is to be sent as well. Returns false, and
    /// forgets nothing, if the lease is gone.
    pub async fn forget_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.forget_parked(sink, epoch, positions).await,
            Self::Postgres(postgres) => postgres.forget_parked(sink, epoch, positions).await,
        }
    }

    /// Note that entries are never sent, for their time has passed; parked ones are forgotten. Returns false, and does
    /// nothing, if the lease is gone.
    pub async fn note_expired(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_expired(sink, epoch, positions).await,
            Self::Postgres(postgres) => postgres.note_expired(sink, epoch, positions).await,
        }
    }

    /// Forget parked entries that an operator asked to discard, and note who, when and why; what stood behind them in their
    /// keys is to be sent. Returns false, and does nothing, if the lease is gone.
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

    /// A parked entry that could not be sent again stays parked, with the new reason, and blocks its key. Nothing is asked for
    /// that key any more.
    pub async fn keep_parked(&self, sink: &str, position: i64, error: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_parked(sink, position, error).await,
            Self::Postgres(postgres) => postgres.keep_parked(sink, position, error).await,
        }
    }
}
