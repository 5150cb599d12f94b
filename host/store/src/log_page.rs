use uuid::Uuid;

/// Maximum size of a page of the log in bytes, not counting its last entry.
pub(crate) const PAGE_BYTES: usize = 4 << 20;
/// Maximum size of a page of notifications in bytes, not counting its last entry. Many feeds read at the same time.
pub const NOTIFICATION_PAGE_BYTES: usize = 1 << 20;

/// A page of the log, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The entries that have a topic, in order.
    pub entries: Vec<RelayEntry>,
    /// The position up to which the page covers the log.
    pub up_to: i64,
    /// Whether the log ended there at that moment.
    pub is_last: bool,
    /// The incarnation of the database that was read, as in [`Beat`](crate::Beat).
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
