use std::time::Duration;

use uuid::Uuid;

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
    /// The database that was read, as in [`Beat`].
    pub incarnation: String,
}

impl LogPage {
    /// A page that is not full shows all there is.
    pub(crate) fn new(entries: Vec<RelayEntry>, asked: (i64, u32), log_end: i64, incarnation: String) -> Self {
        let (after, limit) = asked;
        let last = entries.last().map_or(after, |entry| entry.position);
        let up_to = if entries.len() < limit as usize { last.max(log_end) } else { last };
        Self { entries, up_to, incarnation }
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

/// An entry that a sink refused, or that stands behind one of its key.
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
