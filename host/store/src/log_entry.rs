use belfry_model::{Envelope, Malformed};
use uuid::Uuid;

use crate::DeadLetter;

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub position: i64,
    /// The id of the event or notification.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// The topic it is published to; `None` if it is not published.
    pub topic: Option<String>,
    /// The partition key; for a notification, the recipient.
    pub event_key: String,
    /// The envelope: of an event as received, of a notification as completed by Belfry.
    pub payload: Vec<u8>,
    /// The event that caused it; `None` if it is an event itself.
    pub source_event_id: Option<Uuid>,
    /// The release that produced it; `None` if it is an event.
    pub release_id: Option<i64>,
    /// The outcome of each projector, as JSON; `None` if it is a notification.
    pub projections: Option<Vec<u8>>,
    /// When it expires, in milliseconds since the Unix epoch. It is not sent after this.
    pub expires_at_ms: Option<i64>,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl LogEntry {
    /// Parses the envelope of an event. The returned id is the one under which the event was recorded, which may differ
    /// from the one in the bytes.
    ///
    /// # Errors
    /// Returns an error if this version does not accept the bytes as an envelope.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        Ok(Envelope::parse(&self.payload)?.known_as(self.event_id))
    }
}

/// A notification that is deliberately not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Its derived id.
    pub notification_id: Uuid,
    /// The event that caused it.
    pub source_event_id: Uuid,
    /// The release that produced it.
    pub release_id: i64,
    /// The intended recipient.
    pub recipient: String,
    /// Why it was withheld.
    pub reason: String,
    /// When it was withheld, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// An event and everything that resulted from it.
#[derive(Clone, Debug)]
pub struct EventHistory {
    /// The event.
    pub event: LogEntry,
    /// Where it was read, such as `TOPIC/PARTITION@OFFSET`; `None` if it was posted, or recorded by a version that did
    /// not store this.
    pub source: Option<String>,
    /// Its notifications in the log, in order.
    pub notifications: Vec<LogEntry>,
    /// Its notifications that were withheld.
    pub withheld: Vec<Withheld>,
    /// The dead letters of projectors that could not project it.
    pub dead_letters: Vec<DeadLetter>,
}

/// A notification, issued or withheld.
#[derive(Clone, Debug)]
pub enum NotificationHistory {
    /// It is in the log.
    Issued(LogEntry),
    /// It was withheld.
    Withheld(Withheld),
}
