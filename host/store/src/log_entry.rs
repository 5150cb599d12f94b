use belfry_model::{Envelope, Malformed};
use uuid::Uuid;

use crate::DeadLetter;

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub position: i64,
    /// Of the event or notification.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Where it is published; nowhere if none.
    pub topic: Option<String>,
    /// The partition key; of a notification the recipient.
    pub event_key: String,
    /// The envelope, as received or as finished.
    pub payload: Vec<u8>,
    /// The event that caused it, if it is a notification.
    pub source_event_id: Option<Uuid>,
    /// The release that made it, if it is a notification.
    pub release_id: Option<i64>,
    /// What each projector made of it, as JSON, if it is an event.
    pub projections: Option<Vec<u8>>,
    /// Not sent after this.
    pub expires_at_ms: Option<i64>,
    /// When it was recorded.
    pub created_at_ms: i64,
}

impl LogEntry {
    /// The envelope of an event. The id is that under which it was taken, which need not be the one in the bytes.
    ///
    /// # Errors
    /// If this version takes it for none.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        Ok(Envelope::parse(&self.payload)?.known_as(self.event_id))
    }
}

/// A notification deliberately not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Its derived id.
    pub notification_id: Uuid,
    /// The event that caused it.
    pub source_event_id: Uuid,
    /// The release that made it.
    pub release_id: i64,
    /// Who would have been notified.
    pub recipient: String,
    /// Why not.
    pub reason: String,
    /// When that was decided.
    pub created_at_ms: i64,
}

/// An event and everything that came of it.
#[derive(Clone, Debug)]
pub struct EventHistory {
    /// The event.
    pub event: LogEntry,
    /// Where it was read, such as `TOPIC/PARTITION@OFFSET`; none if it was posted, or recorded before that was kept.
    pub source: Option<String>,
    /// Notifications in the log, in order.
    pub notifications: Vec<LogEntry>,
    /// Notifications not sent.
    pub withheld: Vec<Withheld>,
    /// Projectors that could not project it.
    pub dead_letters: Vec<DeadLetter>,
}

/// A notification, sent or not.
#[derive(Clone, Debug)]
pub enum NotificationHistory {
    /// It is in the log.
    Issued(LogEntry),
    /// It was not sent.
    Withheld(Withheld),
}
