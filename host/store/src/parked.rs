//! Entries that a sink refused, and topics that it does not accept.

use crate::{RelayEntry, Store, StoreError};

/// The reason for parking an entry that is not at fault itself.
pub const PARKED_BEHIND: &str = "an entry of its key was refused before";

/// What a parked entry blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParkedScope {
    /// Its key: the sink refused this entry, or an earlier entry of the key.
    #[default]
    Key,
    /// Its topic: the sink does not accept any entry of the topic.
    Topic,
}

impl ParkedScope {
    /// Returns the name of the scope in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Topic => "topic",
        }
    }

    pub(crate) fn parse(word: &str) -> Self {
        if word == Self::Topic.as_str() { Self::Topic } else { Self::Key }
    }
}

/// Parked entries that must be sent in order.
#[derive(Clone, Copy, Debug)]
pub enum ParkedLine<'a> {
    /// The entries that block a key of a topic: the topic and the key.
    Key(&'a str, &'a str),
    /// The entries that wait for a topic.
    Topic(&'a str),
}

/// A parked entry, with the content that its sink needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEntry {
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key; empty if it has none.
    pub event_key: String,
    /// The content; `None` if the entry left the log before the content was stored with the parked entry.
    pub entry: Option<RelayEntry>,
}

/// A topic that a sink does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTopic {
    /// The topic.
    pub topic: String,
    /// The reason that the sink reported.
    pub reason: String,
}

/// An entry to park: a sink refused it, or it is behind a refused entry of its key or its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewParked {
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key. Sink, topic and key together identify what is blocked.
    pub event_key: String,
    /// Why it is parked.
    pub error: String,
    /// What it blocks.
    pub scope: ParkedScope,
}

/// What an operator requests for a parked entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedRequest {
    /// Send it and the entries behind it again.
    Unpark,
    /// Never send it.
    Discard,
}

impl ParkedRequest {
    /// Returns the name of the request in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpark => "unpark",
            Self::Discard => "discard",
        }
    }

    /// Returns the action in the audit log.
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Unpark => "parked.unpark",
            Self::Discard => "parked.discard",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Unpark, Self::Discard].into_iter().find(|request| request.as_str() == word)
    }
}

/// A request for parked entries, with its author and reason.
#[derive(Clone, Copy, Debug)]
pub struct NewParkedRequest<'a> {
    /// The request.
    pub request: ParkedRequest,
    /// The author: the name of a token, or `local`.
    pub by: &'a str,
    /// Why entries are discarded, in the operator's words.
    pub reason: Option<&'a str>,
}

/// A parked entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The sink that refused it.
    pub sink: String,
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub event_key: String,
    /// Why it is parked.
    pub error: String,
    /// What it blocks.
    pub scope: ParkedScope,
    /// When it was parked, in milliseconds since the Unix epoch.
    pub parked_at_ms: i64,
    /// The operator's request, which the sink's relay carries out.
    pub request: Option<ParkedRequest>,
}

/// Selects the parked entries that match all fields that are set.
#[derive(Clone, Debug, Default)]
pub struct ParkedFilter {
    /// The sink.
    pub sink: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// The key.
    pub event_key: Option<String>,
    /// The position in the log.
    pub position: Option<i64>,
}

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
