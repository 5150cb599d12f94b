//! What an audit compares the topics with, and what a doctor learns of a database.

use uuid::Uuid;

/// An entry of the log as far as an audit needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its position in the log.
    pub position: i64,
    /// Of the event or notification.
    pub event_id: Uuid,
    /// Where it is published.
    pub topic: String,
    /// Its key; empty if none.
    pub event_key: String,
    /// The event that caused it, if it is a notification.
    pub source_event_id: Option<Uuid>,
    /// Whether its sink refused it and it waits.
    pub parked: bool,
    /// Whether somebody decided that its sink never gets it.
    pub discarded: bool,
    /// Whether its time may have passed when it was to be sent.
    pub expired: bool,
    /// When it was recorded.
    pub created_at_ms: i64,
}

/// How far a sink has been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReach {
    /// Where it began; entries up to here were never meant for it.
    pub began_at: i64,
    /// Everything up to here is acknowledged, parked or not to be sent.
    pub position: i64,
}
