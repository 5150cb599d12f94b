use belfry_model::ContentHash;
use bytes::Bytes;
use uuid::Uuid;

/// Reason for withholding a notification: it had expired when it was committed.
pub const WITHHELD_EXPIRED: &str = "expired";
/// Reason for not sending an entry to a sink: it was recorded while the sink was off, and an operator lets the sink
/// continue after it.
pub(crate) const WITHHELD_OFF: &str = "sink-off";
/// Reason for withholding a notification: its identity was issued before.
pub const WITHHELD_ISSUED: &str = "already-issued";
/// Reason for withholding a notification: an operator has muted all notifications.
pub const WITHHELD_MUTED: &str = "muted";

/// Reason why an event or a notification has no effect: the database cannot hold it. A code of
/// [`belfry_model::Outcome`].
pub const UNSTORABLE: &str = "unstorable";

/// An event and everything that results from it, to be committed atomically.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The event.
    pub event: NewEvent,
    /// Its notifications, in the order in which they are appended to the log.
    pub notifications: Vec<NewNotification>,
    /// Dead letters of projectors that could not project it.
    pub dead_letters: Vec<NewDeadLetter>,
    /// Whether all its notifications are withheld as muted.
    pub muted: bool,
    /// Where the event was read, if no sender waits for an answer: a conflict then becomes a dead letter.
    pub origin: Option<Origin>,
}

/// Size of a row in addition to its payload and headers, in bytes: ids, names, keys.
const ROW_BYTES: usize = 256;

/// A location in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic, or the source's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl Submission {
    /// Returns the approximate size of its rows in bytes.
    pub fn bytes(&self) -> usize {
        let event = &self.event;
        let notifications = self.notifications.iter().map(|one| one.payload.len() + one.headers.len() + ROW_BYTES);
        event.payload.len() + event.headers.len() + event.projections.len() + ROW_BYTES + notifications.sum::<usize>()
    }

    /// Returns the number of rows that it adds to the log.
    pub fn entries(&self) -> usize {
        1 + self.notifications.len()
    }
}

/// An event to record.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id, recorded once.
    pub event_id: Uuid,
    /// Distinguishes a duplicate from a conflict.
    pub content_hash: ContentHash,
    /// Its type.
    pub event_type: String,
    /// The kind of object that it is about.
    pub aggregate_type: &'static str,
    /// The object that it is about.
    pub aggregate_id: String,
    /// The topic it is published to; `None` if it is not published.
    pub topic: Option<String>,
    /// The partition key; empty if it has none.
    pub event_key: String,
    /// The received bytes, unchanged.
    pub payload: Bytes,
    /// The message's headers as a JSON object.
    pub headers: Bytes,
    /// The outcome of each projector, as JSON.
    pub projections: Bytes,
}

/// A notification to record.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Its derived id, issued once.
    pub notification_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// The topic it is published to; `None` if it is not published.
    pub topic: Option<String>,
    /// The recipient, which is also the partition key.
    pub recipient: String,
    /// The completed message.
    pub payload: Bytes,
    /// The message's headers as a JSON object.
    pub headers: Bytes,
    /// The release that produced it.
    pub release_id: i64,
    /// When it expires, in milliseconds since the Unix epoch. It is not sent after this.
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
    /// A code of [`belfry_model::Outcome`].
    pub cause: &'static str,
    /// A description for operators.
    pub detail: String,
}

/// The outcome of a submission. It is durable when the sender receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Recorded.
    Accepted {
        /// The event's position in the log.
        position: i64,
        /// For each notification, in order: its position in the log, or the reason why it is withheld.
        notifications: Vec<Result<i64, &'static str>>,
        /// The dead letters' ids, in order.
        dead_letters: Vec<i64>,
    },
    /// The same event was recorded before.
    Duplicate,
    /// Another event was recorded under this id before.
    Conflict,
    /// The database cannot hold the event, for this reason. If the event was read from a source, it is a dead letter
    /// now.
    Unstorable(String),
}
