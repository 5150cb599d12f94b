//! Entries that a sink refused, and topics that it does not accept.

use crate::RelayEntry;

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
