use std::time::Duration;

use uuid::Uuid;

/// Maximum size of a page of the log in bytes, not counting its last entry.
pub(crate) const PAGE_BYTES: usize = 4 << 20;
/// Maximum size of a page of notifications in bytes, not counting its last entry. Many feeds read at the same time.
pub const NOTIFICATION_PAGE_BYTES: usize = 1 << 20;
/// The reason for parking an entry that is not at fault itself.
pub const PARKED_BEHIND: &str = "an entry of its key was refused before";

/// Duration of a lease from its last renewal, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(15);

/// The right to send a sink its entries, until the lease expires or another replica takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Increases with each holder. Requests of earlier holders are rejected.
    pub epoch: i64,
    /// The position up to which the sink has been served.
    pub position: i64,
    /// The incarnation of the database that the lease was taken from, as in [`Beat`]. In another one, a position has
    /// another meaning.
    pub incarnation: String,
}

/// A page of the log, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The entries that have a topic, in order.
    pub entries: Vec<RelayEntry>,
    /// The position up to which the page covers the log.
    pub up_to: i64,
    /// Whether the log ended there at that moment.
    pub is_last: bool,
    /// The incarnation of the database that was read, as in [`Beat`].
    pub incarnation: String,
}

impl LogPage {
    /// A page that reaches neither the limit of entries nor that of bytes covers the log up to its end.
    pub(crate) fn new(entries: Vec<RelayEntry>, asked: (i64, u32), log_end: i64, incarnation: String) -> Self {
        let (after, limit) = asked;
        let last = entries.last().map_or(after, |entry| entry.position);
        let bytes: usize = entries.iter().map(RelayEntry::bytes).sum();
        let is_last = entries.len() < limit as usize && bytes < PAGE_BYTES;
        let up_to = if is_last { last.max(log_end) } else { last };
        Self { entries, up_to, is_last, incarnation }
    }
}

/// An entry that a relay sends to its sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// Its position in the log.
    pub position: i64,
    /// The id of the event or notification.
    pub event_id: Uuid,
    /// The topic it is published to.
    pub topic: String,
    /// The partition key; empty if it has none.
    pub event_key: String,
    /// The envelope.
    pub payload: Vec<u8>,
    /// The message's headers as a JSON object.
    pub headers: Vec<u8>,
    /// Whether it is a notification; otherwise it is an event.
    pub is_notification: bool,
    /// When it expires, in milliseconds since the Unix epoch. It is not sent after this.
    pub expires_at_ms: Option<i64>,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl RelayEntry {
    /// Returns its size in memory in bytes, not counting the fixed size of an entry.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.len()
    }
}

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

/// The entries that a sink missed while it was off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Number of entries to be sent, counted up to [`MAX_BACKLOG`].
    pub entries: i64,
    /// When the sink went off, in milliseconds since the Unix epoch.
    pub off_since_ms: i64,
}

/// The limit up to which a backlog is counted.
pub const MAX_BACKLOG: i64 = 1_000_000;

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

/// The current state of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The name of the sink, or of the source that one replica at a time reads.
    pub name: String,
    /// The current or last holder.
    pub owner: Option<Uuid>,
    /// The holder's epoch.
    pub epoch: i64,
    /// The position up to which the sink has been served.
    pub position: i64,
    /// Whether an operator has paused the sink.
    pub paused: bool,
    /// The remaining time of the lease; zero once it has expired.
    pub remaining: Duration,
}

/// What a replica reads from the database in one heartbeat, which also renews the replica's own leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The highest position in the log.
    pub end: i64,
    /// Number of the last rollout change.
    pub rollout: i64,
    /// Number of the last pause or resume.
    pub pauses: i64,
    /// Number of times a token was created or revoked.
    pub access: i64,
    /// Number of the last request for parked entries.
    pub parked_requests: i64,
    /// All leases.
    pub leases: Vec<LeaseState>,
    /// The incarnation of the database: changes when a standby takes over or a backup is restored.
    pub incarnation: String,
}

impl Beat {
    /// Returns a value that differs between two heartbeats if a rollout or a pause has changed in between.
    pub fn changes(&self) -> (i64, i64) {
        (self.rollout, self.pauses)
    }
}
