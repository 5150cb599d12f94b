use serde::{Deserialize, Serialize};

use super::PARTS;

const MAX_STEPS: usize = 20;
const MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

/// How a canary grows, and when it is rolled back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Growing shares. After a last share of 100 % the candidate serves all; after a smaller one it stays there.
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// A share of the subjects, and what has to pass before the next share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// The percentage of the subjects, to two decimals.
    pub(crate) percent: f64,
    pub(crate) seconds: u64,
    /// Number of events that the candidate has to project, on all replicas.
    pub(crate) events: u64,
}

/// Beyond these limits a canary is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The percentage of its events that it fails on.
    pub(crate) failed_percent: f64,
    /// The percentage of its events that it rejects, beyond the percentage that the serving release rejects.
    pub(crate) rejected_percent: f64,
    /// Its notifications per event, as a multiple of those of the serving release; too few by the same factor count too.
    pub(crate) notifications_factor: f64,
    /// How long it takes to project, median and 99th percentile each, as a multiple of the serving release.
    pub(crate) time_factor: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { failed_percent: 1.0, rejected_percent: 5.0, notifications_factor: 2.0, time_factor: 4.0 }
    }
}

impl Step {
    /// Returns the share in units of 1 / [`PARTS`].
    pub(crate) fn parts(&self) -> u32 {
        (self.percent / 100.0 * f64::from(PARTS)).round() as u32
    }
}

impl Plan {
    /// Returns whether the candidate serves all subjects after the last step.
    pub(crate) fn serves_all_in_the_end(&self) -> bool {
        self.steps.last().is_some_and(|last| last.parts() == PARTS)
    }

    /// Returns what is wrong with the plan, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { steps, limits } = self;
        if steps.is_empty() || steps.len() > MAX_STEPS {
            return Some(format!("steps: must be 1 to {MAX_STEPS}"));
        }
        if let Some(step) = steps.iter().find(|step| !(1..=PARTS).contains(&step.parts())) {
            return Some(format!("steps: {} % is not a share; use 0.01 to 100", step.percent));
        }
        if steps.iter().any(|step| step.seconds > MAX_SECONDS) {
            return Some("steps: a step may take at most 30 days".into());
        }
        if !steps.is_sorted_by(|one, next| one.parts() < next.parts()) {
            return Some("steps: each share must be larger than the one before".into());
        }
        let factors = [limits.notifications_factor, limits.time_factor];
        if !factors.iter().all(|factor| factor.is_finite() && *factor > 1.0) {
            return Some("limits: a factor must be more than 1".into());
        }
        let percents = [limits.failed_percent, limits.rejected_percent];
        if !percents.iter().all(|percent| (0.0..=100.0).contains(percent)) {
            return Some("limits: a percentage must be 0 to 100".into());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(percents: &[f64]) -> Plan {
        let steps = percents.iter().map(|percent| Step { percent: *percent, seconds: 60, events: 100 }).collect();
        Plan { steps, limits: Limits::default() }
    }

    #[test]
    fn shares_grow() {
        assert_eq!(plan(&[0.01, 1.0, 10.0, 50.0, 100.0]).fault(), None);
        assert!(plan(&[10.0, 10.0]).fault().is_some_and(|fault| fault.contains("larger")));
        assert!(plan(&[50.0, 10.0]).fault().is_some_and(|fault| fault.contains("larger")));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for percent in [0.0, -1.0, 100.5, 0.001, f64::NAN] {
            assert!(plan(&[percent]).fault().is_some_and(|fault| fault.contains("not a share")), "{percent}");
        }
        assert!(plan(&[]).fault().is_some());
    }

    #[test]
    fn a_limit_that_nothing_could_keep_is_refused() {
        let limits = Limits { time_factor: 1.0, ..Limits::default() };
        assert!(Plan { limits, ..plan(&[100.0]) }.fault().is_some());
        let limits = Limits { failed_percent: -1.0, ..Limits::default() };
        assert!(Plan { limits, ..plan(&[100.0]) }.fault().is_some());
    }
}
