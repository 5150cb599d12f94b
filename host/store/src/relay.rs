use std::time::Duration;

use uuid::Uuid;

/// What a page of the log has at most, before its last entry.
pub(crate) const PAGE_BYTES: usize = 4 << 20;
/// The same of a page of notifications, which many feeds read at the same time.
pub const NOTIFICATION_PAGE_BYTES: usize = 1 << 20;
/// Why an entry is parked that is not to blame itself.
pub const PARKED_BEHIND: &str = "an entry of its key was refused before";

/// How long a lease lasts unless it is renewed, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(15);

/// The right to hand a sink its entries, until it ends or somebody else takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each holder; what an earlier one asks for is refused.
    pub epoch: i64,
    /// How far the sink has been served.
    pub position: i64,
    /// The database that it was taken from, as in [`Beat`]. In another, a position means something else.
    pub incarnation: String,
}

/// A piece of the log, as one moment showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The entries that have a topic, in order.
    pub entries: Vec<RelayEntry>,
    /// Everything up to here was seen.
    pub up_to: i64,
    /// Whether nothing stood behind it at that moment.
    pub is_last: bool,
    /// The database that was read, as in [`Beat`].
    pub incarnation: String,
}

impl LogPage {
    /// A page that is not full, neither by its entries nor by their bytes, shows all there is.
    pub(crate) fn new(entries: Vec<RelayEntry>, asked: (i64, u32), log_end: i64, incarnation: String) -> Self {
        let (after, limit) = asked;
        let last = entries.last().map_or(after, |entry| entry.position);
        let bytes: usize = entries.iter().map(RelayEntry::bytes).sum();
        let is_last = entries.len() < limit as usize && bytes < PAGE_BYTES;
        let up_to = if is_last { last.max(log_end) } else { last };
        Self { entries, up_to, is_last, incarnation }
    }
}

/// What a relay hands to its sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// Its position in the log.
    pub position: i64,
    /// Of the event or notification.
    pub event_id: Uuid,
    /// Where it goes.
    pub topic: String,
    /// The partition key; empty if none.
    pub event_key: String,
    /// The envelope.
    pub payload: Vec<u8>,
    /// The message's headers as a JSON object.
    pub headers: Vec<u8>,
    /// Whether it is a notification, or else an event.
    pub is_notification: bool,
    /// Not sent after this.
    pub expires_at_ms: Option<i64>,
    /// When it was recorded.
    pub created_at_ms: i64,
}

impl RelayEntry {
    /// What it takes up in memory, but for what all entries take up.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.len()
    }
}

/// What a parked entry blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParkedScope {
    /// Its key: the sink refused it, or one of its key before it.
    #[default]
    Key,
    /// Its topic: the sink takes nothing of it.
    Topic,
}

impl ParkedScope {
    /// The word for it.
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

/// Parked entries that have to be sent in order.
#[derive(Clone, Copy, Debug)]
pub enum ParkedLine<'a> {
    /// Those that block a key of a topic.
    Key(&'a str, &'a str),
    /// Those that wait for a topic.
    Topic(&'a str),
}

/// A parked entry with what its sink needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEntry {
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key; empty if none.
    pub event_key: String,
    /// The entry; none if it had left the log before it could be kept here.
    pub entry: Option<RelayEntry>,
}

/// What a sink that was off has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How many entries it would be sent, [`MAX_BACKLOG`] at most.
    pub entries: i64,
    /// Since when it was off.
    pub off_since_ms: i64,
}

/// A backlog is counted up to here.
pub const MAX_BACKLOG: i64 = 1_000_000;

/// A topic of which a sink takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTopic {
    /// The topic.
    pub topic: String,
    /// What the sink said.
    pub reason: String,
}

/// An entry that a sink refused, or that stands behind one of its key or its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewParked {
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key; together with sink and topic it names what is blocked.
    pub event_key: String,
    /// Why.
    pub error: String,
    /// What it blocks.
    pub scope: ParkedScope,
}

/// What an operator wants done with a parked entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedRequest {
    /// Send it again, and what waits behind it.
    Unpark,
    /// Never send it.
    Discard,
}

impl ParkedRequest {
    /// The word for it in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpark => "unpark",
            Self::Discard => "discard",
        }
    }

    /// The word for it in the audit log.
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

/// The same, with who wants it and why.
#[derive(Clone, Copy, Debug)]
pub struct NewParkedRequest<'a> {
    /// What.
    pub request: ParkedRequest,
    /// The name of the token, or `local`.
    pub by: &'a str,
    /// In an operator's words; of a discard.
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
    /// When.
    pub parked_at_ms: i64,
    /// What an operator asked for; the sink's relay does it.
    pub request: Option<ParkedRequest>,
}

/// Which parked entries are meant.
#[derive(Clone, Debug, Default)]
pub struct ParkedFilter {
    /// Of this sink.
    pub sink: Option<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of this key.
    pub event_key: Option<String>,
    /// At this position.
    pub position: Option<i64>,
}

/// A sink's lease, as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The sink, or the source that one replica at a time reads.
    pub name: String,
    /// Who holds it, or held it last.
    pub owner: Option<Uuid>,
    /// The holder's epoch.
    pub epoch: i64,
    /// How far the sink has been served.
    pub position: i64,
    /// Whether an operator has brought the sink to a halt.
    pub paused: bool,
    /// How long it still lasts; zero once it has ended.
    pub remaining: Duration,
}

/// What a replica learns from one look at the database. Its own leases are renewed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The highest position in the log.
    pub end: i64,
    /// Number of the last change of what serves.
    pub rollout: i64,
    /// Number of the last pause, or end of one.
    pub pauses: i64,
    /// How often tokens were made or revoked.
    pub access: i64,
    /// Number of the last request for parked entries.
    pub parked_requests: i64,
    /// All leases.
    pub leases: Vec<LeaseState>,
    /// Which database this is: changes when a standby takes over or a backup is restored.
    pub incarnation: String,
}

impl Beat {
    /// Differs from another look's if something else serves since, or is at a halt.
    pub fn changes(&self) -> (i64, i64) {
        (self.rollout, self.pauses)
    }
}
