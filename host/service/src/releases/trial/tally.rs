//! Observations of a candidate and of the serving release, as sums that can be added up across replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use belfry_model::Outcome;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::sample::{Sample, keep};
use crate::diff::{Difference, Pair, ProjectionResult, pairs};

/// Steps of time within a doubling: times read from them are at most a fifth too high.
const STEPS_PER_DOUBLING: f64 = 4.0;

/// All observations of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// The serving release: for a canary, on the other subjects; for a shadow, on the same events.
    pub(crate) active: Side,
    pub(crate) candidate: Side,
    /// For a shadow only.
    pub(crate) compared: Compared,
}

/// The observations of one release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Side {
    pub(crate) events: u64,
    pub(crate) notifications: u64,
    pub(crate) rejected: u64,
    pub(crate) failed: u64,
    /// The number of events by outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    times: Times,
}

/// How long projecting took: the number of events in each step of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Times {
    steps: BTreeMap<u16, u64>,
}

/// How the answers of a shadow differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Compared {
    pub(crate) events: u64,
    /// Events that were skipped because the queue was full.
    pub(crate) passed_over: u64,
    /// This count and the next three are of notifications.
    pub(crate) same: u64,
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) changed: u64,
    /// How often each field differs.
    pub(crate) fields: BTreeMap<String, u64>,
    pub(crate) samples: Vec<Sample>,
}

impl Tally {
    /// Adds the tally of another replica, or of another step.
    pub(crate) fn add(&mut self, other: Self) {
        self.active.add(other.active);
        self.candidate.add(other.candidate);
        self.compared.add(other.compared);
    }
}

impl Side {
    pub(crate) fn note(&mut self, outcome: Outcome, notifications: usize, took: Duration) {
        self.events += 1;
        self.notifications += notifications as u64;
        match outcome {
            Outcome::Notifications => {}
            Outcome::Rejected => self.rejected += 1,
            _ => self.failed += 1,
        }
        *self.outcomes.entry(outcome.as_str().to_owned()).or_default() += 1;
        self.times.note(took);
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.notifications += other.notifications;
        self.rejected += other.rejected;
        self.failed += other.failed;
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        for (step, count) in other.times.steps {
            *self.times.steps.entry(step).or_default() += count;
        }
    }

    /// Returns a count as a percentage of the release's events.
    pub(crate) fn percent(&self, count: u64) -> f64 {
        if self.events == 0 { 0.0 } else { count as f64 * 100.0 / self.events as f64 }
    }

    pub(crate) fn notifications_per_event(&self) -> f64 {
        if self.events == 0 { 0.0 } else { self.notifications as f64 / self.events as f64 }
    }

    /// Returns the time within which half of the events were projected, in microseconds.
    pub(crate) fn median_us(&self) -> f64 {
        self.times.quantile_us(0.5)
    }

    /// Returns the time within which 99 of 100 events were projected, in microseconds.
    pub(crate) fn p99_us(&self) -> f64 {
        self.times.quantile_us(0.99)
    }
}

impl Times {
    fn note(&mut self, took: Duration) {
        let step = (took.as_secs_f64() * 1e6).max(1.0).log2() * STEPS_PER_DOUBLING;
        *self.steps.entry(step as u16).or_default() += 1;
    }

    /// Returns the upper end of the step that contains the quantile, in microseconds.
    fn quantile_us(&self, share: f64) -> f64 {
        let all: u64 = self.steps.values().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (step, count) in &self.steps {
            seen += count;
            if seen >= wanted {
                return ((f64::from(*step) + 1.0) / STEPS_PER_DOUBLING).exp2();
            }
        }
        0.0
    }
}

impl Compared {
    /// Adds both answers to an event.
    pub(crate) fn note(
        &mut self,
        event_id: Uuid,
        active: &ProjectionResult,
        candidate: &ProjectionResult,
        now_ms: i64,
    ) {
        self.events += 1;
        let none = Vec::new();
        let (before, after) = (active.as_ref().unwrap_or(&none), candidate.as_ref().unwrap_or(&none));
        for pair in pairs(before, after) {
            let (difference, content, fields) = match pair {
                Pair::Same(_) => {
                    self.same += 1;
                    continue;
                }
                Pair::Added(content) => (Difference::Added, content, Vec::new()),
                Pair::Removed(content) => (Difference::Removed, content, Vec::new()),
                Pair::Changed { after, fields, .. } => (Difference::Changed, after, fields),
            };
            *match difference {
                Difference::Added => &mut self.added,
                Difference::Removed => &mut self.removed,
                Difference::Changed => &mut self.changed,
            } += 1;
            for change in &fields {
                *self.fields.entry(change.field.clone()).or_default() += 1;
            }
            keep(&mut self.samples, Sample::of(difference, event_id, content, fields, now_ms));
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.passed_over += other.passed_over;
        self.same += other.same;
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        for (field, count) in other.fields {
            *self.fields.entry(field).or_default() += count;
        }
        for sample in other.samples {
            keep(&mut self.samples, sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_at_most_a_fifth_too_high() {
        let mut side = Side::default();
        for us in 1..=1000 {
            side.note(Outcome::Notifications, 1, Duration::from_micros(us));
        }
        let p99 = side.p99_us();
        assert!((990.0..1190.0).contains(&p99), "{p99}");
    }

    #[test]
    fn what_replicas_saw_adds_up() {
        let mut one = Tally::default();
        one.candidate.note(Outcome::Trapped, 0, Duration::from_micros(10));
        one.compared.passed_over = 3;
        let mut sum = one.clone();
        sum.add(one);
        assert_eq!((sum.candidate.events, sum.candidate.failed, sum.compared.passed_over), (2, 2, 6));
        assert_eq!(sum.candidate.outcomes["trapped"], 2);
    }

    #[test]
    fn what_was_written_down_is_read_again() {
        let mut tally = Tally::default();
        tally.active.note(Outcome::Rejected, 0, Duration::from_millis(3));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    }
}
