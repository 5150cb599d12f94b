use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use belfry_model::Outcome;

/// A release is suspended after this many failures in a row, or if `HALF` of the last `OF_THE_LAST` events failed.
const IN_A_ROW: u32 = 20;
const OF_THE_LAST: u32 = 100;
const HALF: u32 = OF_THE_LAST / 2;

/// The recent results of a release on this replica. A rejection is not a failure: it is the rule's answer to an event.
#[derive(Default)]
pub(crate) struct Health {
    lately: Mutex<Lately>,
    failing: AtomicBool,
}

#[derive(Default)]
struct Lately {
    /// A bit for each of the last events, the newest in the lowest: whether it failed.
    failed: u128,
    events: u32,
    in_a_row: u32,
    /// Why the release is failing, once that is established.
    finding: Option<String>,
}

impl Health {
    /// Records the outcome of an event.
    pub(crate) fn note(&self, outcome: Outcome) {
        let failed = !matches!(outcome, Outcome::Notifications | Outcome::Rejected);
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.note(failed);
        if lately.finding.is_none() {
            lately.finding = lately.verdict(outcome);
            self.failing.store(lately.finding.is_some(), Ordering::Release);
        }
    }

    /// Returns whether the release has to be suspended.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Returns why the release has to be suspended.
    pub(crate) fn finding(&self) -> Option<String> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).finding.clone()
    }
}

impl Lately {
    fn note(&mut self, failed: bool) {
        const WINDOW: u128 = (1 << OF_THE_LAST) - 1;
        self.failed = ((self.failed << 1) | u128::from(failed)) & WINDOW;
        self.events = (self.events + 1).min(OF_THE_LAST);
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
    }

    fn verdict(&self, outcome: Outcome) -> Option<String> {
        if self.in_a_row >= IN_A_ROW {
            return Some(format!("it failed on {IN_A_ROW} events in a row, the last {outcome}"));
        }
        let failed = self.failed.count_ones();
        (self.events == OF_THE_LAST && failed >= HALF)
            .then(|| format!("it failed on {failed} of the last {OF_THE_LAST} events, the last {outcome}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many events the release is found to fail. `fails` decides whether it fails on the event.
    fn found_after(fails: impl Fn(u32) -> bool) -> Option<u32> {
        let health = Health::default();
        (1..=1000).find(|event| {
            health.note(if fails(*event) { Outcome::Trapped } else { Outcome::Notifications });
            health.is_failing()
        })
    }

    #[test]
    fn a_release_that_fails_again_and_again_is_found() {
        assert_eq!(found_after(|_| true), Some(20));
        assert_eq!(found_after(|event| event > 500), Some(520), "however long it succeeded before");
        assert_eq!(found_after(|event| event % 2 == 0), Some(100));
        assert_eq!(found_after(|event| event % 20 != 0), Some(100), "never more than 19 in a row");
        assert_eq!(found_after(|event| event % 3 == 0), None);
    }

    #[test]
    fn a_rejection_is_no_failure() {
        let health = Health::default();
        for _ in 0..200 {
            health.note(Outcome::Rejected);
        }
        assert!(!health.is_failing());
    }
}
