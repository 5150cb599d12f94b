use belfry_model::ContentHash;
use bytes::Bytes;
use uuid::Uuid;

/// Why a notification is withheld: its time had passed when it was committed.
pub const WITHHELD_EXPIRED: &str = "expired";
/// Why an entry is not sent to a sink: it was recorded while the sink was off, and an operator wants the sink to go on behind
/// it.
pub(crate) const WITHHELD_OFF: &str = "sink-off";
/// Why a notification is withheld: its identity was notified before.
pub const WITHHELD_ISSUED: &str = "already-issued";
/// Why a notification is withheld: an operator has muted all of them.
pub const WITHHELD_MUTED: &str = "muted";

/// Why an event or a notification has no effect: the database cannot hold it. From the vocabulary of outcomes.
pub const UNSTORABLE: &str = "unstorable";

/// An event and everything that follows from it, to be committed together or not at all.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The event.
    pub event: NewEvent,
    /// In the order in which they are to stand in the log.
    pub notifications: Vec<NewNotification>,
    /// What projectors could not project.
    pub dead_letters: Vec<NewDeadLetter>,
    /// Whether its notifications are withheld, whatever they say.
    pub muted: bool,
    /// Where the event was read, if nobody waits for an answer: a conflict then becomes a dead letter.
    pub origin: Option<Origin>,
}

/// What a row takes beside its payload and headers: ids, names, keys.
const ROW_BYTES: usize = 256;

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic, or the source's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's place there.
    pub offset: i64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl Submission {
    /// About how many bytes its rows have.
    pub fn bytes(&self) -> usize {
        let event = &self.event;
        let notifications = self.notifications.iter().map(|one| one.payload.len() + one.headers.len() + ROW_BYTES);
        event.payload.len() + event.headers.len() + event.projections.len() + ROW_BYTES + notifications.sum::<usize>()
    }

    /// Rows that it adds to the log.
    pub fn entries(&self) -> usize {
        1 + self.notifications.len()
    }
}

/// An event as it is recorded.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id; taken once.
    pub event_id: Uuid,
    /// Tells a repetition from a conflict.
    pub content_hash: ContentHash,
    /// Its type.
    pub event_type: String,
    /// What kind of thing it is about.
    pub aggregate_type: &'static str,
    /// Which one.
    pub aggregate_id: String,
    /// Where it is published; nowhere if none.
    pub topic: Option<String>,
    /// The partition key; empty if none.
    pub event_key: String,
    /// Exactly the bytes received.
    pub payload: Bytes,
    /// The message's headers as a JSON object.
    pub headers: Bytes,
    /// What each projector made of it, as JSON.
    pub projections: Bytes,
}

/// A notification as it is recorded.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Its derived id; issued once.
    pub notification_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Where it is published; nowhere if none.
    pub topic: Option<String>,
    /// Who is notified; the key too.
    pub recipient: String,
    /// The finished message.
    pub payload: Bytes,
    /// The message's headers as a JSON object.
    pub headers: Bytes,
    /// The release that made it.
    pub release_id: i64,
    /// Not sent after this.
    pub expires_at_ms: Option<i64>,
}

impl NewNotification {
    pub(crate) fn expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
    }
}

/// An event that a projector could not project.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// The projector.
    pub projector: String,
    /// Its release.
    pub release_id: i64,
    /// From the vocabulary of outcomes.
    pub cause: &'static str,
    /// In words for operators.
    pub detail: String,
}

/// What became of a submission. Once it is given, it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Recorded.
    Accepted {
        /// The event's position in the log.
        position: i64,
        /// For each notification, in order: appended to the log, or the reason why it is withheld.
        notifications: Vec<Result<i64, &'static str>>,
        /// The dead letters' ids, in order.
        dead_letters: Vec<i64>,
    },
    /// The same event was taken before.
    Duplicate,
    /// Another event was taken under this id before.
    Conflict,
    /// The database cannot hold the event, for this reason. It is a dead letter now if it was read from a source.
    Unstorable(String),
}
