//! The findings of a replay while it runs, and the report that they become.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use belfry_model::format_instant_ms;
use serde_json::Value;
use uuid::Uuid;

use super::report::{
    ChangedField, Differences, Events, Kind, NotProjected, PriorityMove, Recipient, Report, Sample, SampleField, Span,
    Sums,
};
use crate::diff::{Difference, FieldChange, NotificationContent, Pair, ProjectionResult, pairs};

/// Number of examples kept of each kind.
const SAMPLES: usize = 20;
/// Number of recipients that are listed, those with the most differences first.
const RECIPIENTS: usize = 20;
/// Limit on the recipients that are counted individually; the differences of others are only in the sums.
const RECIPIENTS_COUNTED: usize = 100_000;
/// Number of spans of time into which the events are sorted.
const SPANS: usize = 40;
/// Longer values are truncated in the samples.
const VALUE_BYTES: usize = 1000;

/// What is compared, and over which period.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) projector: String,
    pub(super) candidate: String,
    pub(super) baseline: String,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// The results of both sides for one event.
pub(super) struct Compared {
    pub(super) event_id: Uuid,
    pub(super) position: i64,
    pub(super) recorded_ms: i64,
    pub(super) baseline: ProjectionResult,
    pub(super) candidate: ProjectionResult,
}

/// The result for an event that was read.
pub(super) enum Seen {
    PassedOver,
    Unreadable,
    Compared(Compared),
}

/// The report under construction.
pub(super) struct Findings {
    header: Header,
    events: Events,
    sums: Sums,
    not_projected: NotProjected,
    kinds: BTreeMap<(String, String), Sums>,
    priority_moves: BTreeMap<(String, String), u64>,
    changed_fields: BTreeMap<String, u64>,
    recipients: BTreeMap<String, Differences>,
    volume: [[u64; 2]; SPANS],
    samples: BTreeMap<Difference, Vec<Sample>>,
}

impl Findings {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            events: Events::default(),
            sums: Sums::default(),
            not_projected: NotProjected::default(),
            kinds: BTreeMap::new(),
            priority_moves: BTreeMap::new(),
            changed_fields: BTreeMap::new(),
            recipients: BTreeMap::new(),
            volume: [[0; 2]; SPANS],
            samples: BTreeMap::new(),
        }
    }

    /// Returns the number of events seen so far.
    pub(super) fn seen(&self) -> u64 {
        self.events.found
    }

    pub(super) fn differences(&self) -> (u64, u64, u64) {
        (self.sums.added, self.sums.removed, self.sums.changed)
    }

    pub(super) fn note(&mut self, seen: Seen) {
        self.events.found += 1;
        match seen {
            Seen::PassedOver => self.events.passed_over += 1,
            Seen::Unreadable => self.events.unreadable += 1,
            Seen::Compared(compared) => {
                self.events.projected += 1;
                self.compare(&compared);
            }
        }
    }

    fn compare(&mut self, compared: &Compared) {
        let span = self.span(compared.recorded_ms);
        let sides = [(&compared.baseline, 0), (&compared.candidate, 1)];
        for (made, side) in sides {
            match made {
                Ok(notifications) => self.volume[span][side] += notifications.len() as u64,
                Err(outcome) => {
                    let of =
                        if side == 0 { &mut self.not_projected.baseline } else { &mut self.not_projected.candidate };
                    *of.entry(outcome.as_str()).or_default() += 1;
                }
            }
        }
        let none = Vec::new();
        let before = compared.baseline.as_ref().unwrap_or(&none);
        let after = compared.candidate.as_ref().unwrap_or(&none);
        // Sides that fail in different ways differ as well.
        let mut differs = compared.baseline.as_ref().err() != compared.candidate.as_ref().err();
        for pair in pairs(before, after) {
            differs |= !matches!(pair, Pair::Same(_));
            self.count_pair(compared, pair);
        }
        self.events.differing += u64::from(differs);
    }

    fn count_pair(&mut self, compared: &Compared, pair: Pair<'_>) {
        match pair {
            Pair::Same(content) => self.sum(content, |sums| {
                sums.baseline += 1;
                sums.candidate += 1;
                sums.same += 1;
            }),
            Pair::Removed(content) => {
                self.sum(content, |sums| {
                    sums.baseline += 1;
                    sums.removed += 1;
                });
                self.differs(compared, Difference::Removed, content, Vec::new());
            }
            Pair::Changed { before, after, fields } => {
                self.sum(before, |sums| {
                    sums.baseline += 1;
                    sums.changed += 1;
                });
                self.sum(after, |sums| sums.candidate += 1);
                self.changed(before, after, &fields);
                self.differs(compared, Difference::Changed, after, fields);
            }
            Pair::Added(content) => {
                self.sum(content, |sums| {
                    sums.candidate += 1;
                    sums.added += 1;
                });
                self.differs(compared, Difference::Added, content, Vec::new());
            }
        }
    }

    fn span(&self, recorded_ms: i64) -> usize {
        let Header { from_ms, to_ms, .. } = self.header;
        let share = (recorded_ms - from_ms) as f64 / (to_ms - from_ms).max(1) as f64;
        ((share * SPANS as f64) as usize).min(SPANS - 1)
    }

    fn sum(&mut self, content: &NotificationContent, add: impl Fn(&mut Sums)) {
        add(&mut self.sums);
        let kind = (content.category.clone(), content.notification_type.clone());
        add(self.kinds.entry(kind).or_default());
    }

    fn changed(&mut self, before: &NotificationContent, after: &NotificationContent, changes: &[FieldChange]) {
        if before.priority != after.priority {
            let moved = (before.priority.clone(), after.priority.clone());
            *self.priority_moves.entry(moved).or_default() += 1;
        }
        for change in changes {
            *self.changed_fields.entry(change.field.clone()).or_default() += 1;
        }
    }

    fn differs(
        &mut self,
        compared: &Compared,
        kind: Difference,
        content: &NotificationContent,
        changes: Vec<FieldChange>,
    ) {
        if self.recipients.len() < RECIPIENTS_COUNTED || self.recipients.contains_key(&content.recipient) {
            self.recipients.entry(content.recipient.clone()).or_default().count(kind);
        }
        let samples = self.samples.entry(kind).or_default();
        if samples.len() == SAMPLES {
            return;
        }
        let field =
            |FieldChange { field, before, after }| SampleField { field, before: cut(before), after: cut(after) };
        samples.push(Sample {
            kind,
            event_id: compared.event_id,
            position: compared.position,
            notification_id: content.id,
            recipient: content.recipient.clone(),
            category: content.category.clone(),
            notification_type: content.notification_type.clone(),
            priority: content.priority.clone(),
            fields: changes.into_iter().map(field).collect(),
        });
    }

    pub(super) fn report(self, seconds: f64) -> Report {
        let Header { projector, candidate, baseline, from_ms, to_ms } = self.header;
        let time = |ms: i64| format_instant_ms(ms).unwrap_or_else(|_| ms.to_string());
        let mut changed_fields: Vec<ChangedField> =
            self.changed_fields.into_iter().map(|(field, count)| ChangedField { field, count }).collect();
        changed_fields.sort_by_key(|field| Reverse(field.count));
        let recipients_affected = self.recipients.len();
        let mut recipients: Vec<Recipient> =
            self.recipients.into_iter().map(|(recipient, differences)| Recipient { recipient, differences }).collect();
        recipients.sort_by_key(|of| Reverse(of.differences.all()));
        recipients.truncate(RECIPIENTS);
        let step = (to_ms - from_ms).max(1) as f64 / SPANS as f64;
        let span = |(number, [baseline, candidate]): (usize, [u64; 2])| Span {
            from: time(from_ms + (number as f64 * step) as i64),
            baseline,
            candidate,
        };
        Report {
            projector,
            candidate,
            baseline,
            from: time(from_ms),
            to: time(to_ms),
            events: self.events,
            notifications: self.sums,
            not_projected: self.not_projected,
            kinds: self
                .kinds
                .into_iter()
                .map(|((category, notification_type), sums)| Kind { category, notification_type, sums })
                .collect(),
            priority_moves: self
                .priority_moves
                .into_iter()
                .map(|((before, after), count)| PriorityMove { before, after, count })
                .collect(),
            changed_fields,
            recipients,
            recipients_affected,
            volume: self.volume.into_iter().enumerate().map(span).collect(),
            samples: self.samples.into_values().flatten().collect(),
            seconds,
            events_per_second: self.events.projected as f64 / seconds.max(1e-9),
        }
    }
}

/// Truncates a value that is too long to be read.
fn cut(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return value,
    };
    if text.len() <= VALUE_BYTES {
        return value;
    }
    let end = text.floor_char_boundary(VALUE_BYTES);
    Value::String(format!("{}… ({} bytes)", &text[..end], text.len()))
}
