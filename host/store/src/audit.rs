//! What an audit compares with the topics, and how far a sink has been served.

use uuid::Uuid;

/// A log entry, as far as an audit needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its position in the log.
    pub position: i64,
    /// The id of the event or notification.
    pub event_id: Uuid,
    /// The topic it is published to.
    pub topic: String,
    /// Its key; empty if it has none.
    pub event_key: String,
    /// The event that caused it; `None` if it is an event itself.
    pub source_event_id: Option<Uuid>,
    /// Whether its sink refused it and it is still parked.
    pub parked: bool,
    /// Whether an operator discarded it, so that its sink never gets it.
    pub discarded: bool,
    /// Whether it may have expired by the time it was to be sent.
    pub expired: bool,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// How far a sink has been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReach {
    /// The position at which the sink began. Entries up to here were never intended for it.
    pub began_at: i64,
    /// The position up to which all entries are acknowledged, parked or not to be sent.
    pub position: i64,
}
