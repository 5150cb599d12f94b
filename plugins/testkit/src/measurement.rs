use std::time::Duration;

use belfry_model::Outcome;
use belfry_sandbox::Timings;
use serde::{Serialize, Serializer};

/// The cost of one event for a rule, measured over many calls in fresh instances.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The case's name.
    pub name: String,
    /// The outcome of the last call.
    pub outcome: Outcome,
    /// The number of measured calls.
    pub iterations: usize,
    /// Time from instantiation until the instance is dropped.
    pub total: Percentiles,
    /// Time to create the instance.
    pub instantiate: Percentiles,
    /// Time to lower the event, run the rule and lift its answer.
    pub call: Percentiles,
    /// Time to drop the instance.
    pub drop: Percentiles,
    /// Maximum memory of the rule at the end of a call, in bytes.
    pub memory_bytes: usize,
}

/// Percentiles of the duration of a call. Serialized in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// The median: half of the calls took at most this duration.
    #[serde(rename = "p50_us", serialize_with = "microseconds")]
    pub p50: Duration,
    /// The 99th percentile: all but one in a hundred calls took at most this duration.
    #[serde(rename = "p99_us", serialize_with = "microseconds")]
    pub p99: Duration,
}

impl Measurement {
    /// Summarizes the timings of at least one call.
    pub(crate) fn of(name: String, outcome: Outcome, timings: &[Timings]) -> Self {
        let percentiles = |part: fn(&Timings) -> Duration| Percentiles::of(timings.iter().map(part).collect());
        Self {
            name,
            outcome,
            iterations: timings.len(),
            total: percentiles(|timings| timings.instantiate + timings.call + timings.drop),
            instantiate: percentiles(|timings| timings.instantiate),
            call: percentiles(|timings| timings.call),
            drop: percentiles(|timings| timings.drop),
            memory_bytes: timings.iter().map(|timings| timings.memory_bytes).max().unwrap_or_default(),
        }
    }
}

impl Percentiles {
    /// Computes the percentiles by nearest rank, so that each is a duration that was actually measured.
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let rank = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100);
            durations.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: rank(50), p99: rank(99) }
    }
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_nanos() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |count: u64| Percentiles::of((1..=count).rev().map(Duration::from_micros).collect());
        for (count, p50, p99) in [(1, 1, 1), (2, 1, 2), (100, 50, 99), (1000, 500, 990)] {
            let expected = Percentiles { p50: Duration::from_micros(p50), p99: Duration::from_micros(p99) };
            assert_eq!(of(count), expected, "{count}");
        }
    }
}
