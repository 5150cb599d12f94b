//! The report of a replay, as the API returns it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The result of a replay.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplayReport {
    pub projector: String,
    pub candidate: String,
    pub baseline: String,
    pub from: String,
    pub to: String,
    pub events: ReplayEvents,
    pub notifications: ReplaySums,
    pub not_projected: NotProjected,
    pub kinds: Vec<ReplayKind>,
    pub priority_moves: Vec<PriorityMove>,
    pub changed_fields: Vec<ChangedField>,
    pub recipients: Vec<ReplayRecipient>,
    pub recipients_affected: u64,
    pub volume: Vec<Span>,
    pub samples: Vec<ReplaySample>,
    pub seconds: f64,
    pub events_per_second: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplayEvents {
    pub found: u64,
    pub passed_over: u64,
    pub projected: u64,
    pub unreadable: u64,
    pub differing: u64,
}

/// Numbers of notifications.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplaySums {
    pub baseline: u64,
    pub candidate: u64,
    pub same: u64,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

/// The numbers of events that a side failed on or rejected, by outcome.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct NotProjected {
    pub baseline: BTreeMap<String, u64>,
    pub candidate: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplayKind {
    pub category: String,
    pub notification_type: String,
    #[serde(flatten)]
    pub sums: ReplaySums,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct PriorityMove {
    pub before: String,
    pub after: String,
    pub count: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ChangedField {
    pub field: String,
    pub count: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplayRecipient {
    pub recipient: String,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct Span {
    pub from: String,
    pub baseline: u64,
    pub candidate: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplaySample {
    pub kind: String,
    pub event_id: String,
    pub recipient: String,
    pub category: String,
    pub notification_type: String,
    pub priority: String,
    #[serde(default)]
    pub fields: Vec<SampleField>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct SampleField {
    pub field: String,
    pub before: Value,
    pub after: Value,
}
