//! The report of a replay. The same events and the same releases produce the same report, except for its duration.

use std::collections::BTreeMap;

use belfry_store::Replayed;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::diff::Difference;

/// The whole report, as sent over the wire.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(super) projector: String,
    /// The labels of the releases; the baseline may also be `recorded`.
    pub(super) candidate: String,
    pub(super) baseline: String,
    /// The requested period.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) events: Events,
    pub(super) notifications: Sums,
    /// The number of events that each side failed on or rejected, by outcome.
    pub(super) not_projected: NotProjected,
    /// The sums by category and type.
    pub(super) kinds: Vec<Kind>,
    /// Changes of priority of notifications that are on both sides.
    pub(super) priority_moves: Vec<PriorityMove>,
    /// How often each field of notifications on both sides differs, most frequent first.
    pub(super) changed_fields: Vec<ChangedField>,
    /// The recipients with the most differences.
    pub(super) recipients: Vec<Recipient>,
    pub(super) recipients_affected: usize,
    /// The notifications in equal spans of time, oldest first.
    pub(super) volume: Vec<Span>,
    pub(super) samples: Vec<Sample>,
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
}

impl Report {
    /// Returns the part of the report that is stored.
    pub(super) fn summary(&self, baseline_id: Option<i64>, one_subject: bool) -> Replayed {
        let Sums { added, removed, changed, .. } = self.notifications;
        let (from, to, events) = (self.from.clone(), self.to.clone(), self.events.projected);
        let not_projected = self.not_projected.candidate.values().sum();
        Replayed { baseline_id, from, to, events, not_projected, one_subject, added, removed, changed }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Events {
    /// Events in the period.
    pub(super) found: u64,
    /// Events that neither side subscribes to, or that were not chosen.
    pub(super) passed_over: u64,
    pub(super) projected: u64,
    /// Events recorded by another version of Belfry that are not events for this one.
    pub(super) unreadable: u64,
    /// Events on which the sides differ.
    pub(super) differing: u64,
}

/// Counts of notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub(super) baseline: u64,
    pub(super) candidate: u64,
    pub(super) same: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) changed: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct NotProjected {
    pub(super) baseline: BTreeMap<&'static str, u64>,
    pub(super) candidate: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Kind {
    pub(super) category: String,
    pub(super) notification_type: String,
    #[serde(flatten)]
    pub(super) sums: Sums,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct PriorityMove {
    pub(super) before: String,
    pub(super) after: String,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ChangedField {
    pub(super) field: String,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Recipient {
    pub(super) recipient: String,
    #[serde(flatten)]
    pub(super) differences: Differences,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Differences {
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) changed: u64,
}

impl Differences {
    pub(super) fn count(&mut self, difference: Difference) {
        *match difference {
            Difference::Added => &mut self.added,
            Difference::Removed => &mut self.removed,
            Difference::Changed => &mut self.changed,
        } += 1;
    }

    pub(super) fn all(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Span {
    /// When it begins.
    pub(super) from: String,
    pub(super) baseline: u64,
    pub(super) candidate: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) kind: Difference,
    pub(super) event_id: Uuid,
    pub(super) position: i64,
    pub(super) notification_id: Uuid,
    pub(super) recipient: String,
    pub(super) category: String,
    pub(super) notification_type: String,
    pub(super) priority: String,
    /// For a change only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fields: Vec<SampleField>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SampleField {
    pub(super) field: String,
    pub(super) before: Value,
    pub(super) after: Value,
}
