//! Compares what two releases make of the same event: in replays, for shadows, and in reruns of an event.

mod content;

use belfry_model::Outcome;
use serde::{Deserialize, Serialize};

pub(crate) use content::{FieldChange, NotificationContent, ProjectionResult};

/// A notification that one side or both sides make. Notifications with the same id form a pair.
pub(crate) enum Pair<'a> {
    Same(&'a NotificationContent),
    Changed { before: &'a NotificationContent, after: &'a NotificationContent, fields: Vec<FieldChange> },
    Removed(&'a NotificationContent),
    Added(&'a NotificationContent),
}

/// How a notification differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Difference {
    Added,
    Changed,
    Removed,
}

/// Returns the outcome for an event.
pub(crate) fn outcome(made: &ProjectionResult) -> Outcome {
    made.as_ref().err().copied().unwrap_or(Outcome::Notifications)
}

/// Returns whether an outcome follows from the rule and the event alone. The duration of a call depends on the machine's
/// load, and the size that a topic accepts on the broker.
pub(crate) fn is_its_own(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::TimedOut | Outcome::OutputLimit)
}

/// Pairs both sides' notifications: those of `before` in their order, then the new ones of `after`.
pub(crate) fn pairs<'a>(
    before: &'a [NotificationContent],
    after: &'a [NotificationContent],
) -> impl Iterator<Item = Pair<'a>> {
    let known = before.iter().map(|content| match after.iter().find(|other| other.id == content.id) {
        None => Pair::Removed(content),
        Some(other) => match content.changes(other) {
            fields if fields.is_empty() => Pair::Same(content),
            fields => Pair::Changed { before: content, after: other, fields },
        },
    });
    let new = after.iter().filter(|content| !before.iter().any(|other| other.id == content.id)).map(Pair::Added);
    known.chain(new)
}
