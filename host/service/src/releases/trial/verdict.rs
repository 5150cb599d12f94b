//! Decides whether a canary may continue.

use super::plan::{Limits, Step};
use super::tally::Side;

/// Minimum number of failures: fewer may be chance.
const FAILURES: u64 = 3;
/// Minimum number of events on both sides before rejections and notifications are compared.
const EVENTS: u64 = 50;
/// Minimum number of events on both sides before times are compared: a hundredth of them decides.
const TIMED_EVENTS: u64 = 200;
/// Up to this many notifications per event, a rule is not compared by a factor.
const RARE: f64 = 0.01;

/// Returns a description of the limit that the candidate exceeds, if it exceeds one.
pub(super) fn breach(limits: &Limits, candidate: &Side, active: &Side) -> Option<String> {
    let events = candidate.events;
    let failed = candidate.percent(candidate.failed);
    if candidate.failed >= FAILURES && failed > limits.failed_percent {
        let limit = limits.failed_percent;
        return Some(format!(
            "it failed on {} of {events} events ({failed:.1} %, the limit is {limit} %)",
            candidate.failed
        ));
    }
    if events < EVENTS || active.events < EVENTS {
        return None;
    }
    let (rejected, usual) = (candidate.percent(candidate.rejected), active.percent(active.rejected));
    if rejected > usual + limits.rejected_percent {
        let limit = limits.rejected_percent;
        return Some(format!(
            "it rejected {rejected:.1} % of {events} events, the serving release {usual:.1} % (the limit is {limit} % more)"
        ));
    }
    let (made, usual) = (candidate.notifications_per_event(), active.notifications_per_event());
    let limit = limits.notifications_factor;
    if made.max(usual) > RARE && (made > usual * limit || made * limit < usual) {
        return Some(format!(
            "it made {made:.2} notifications per event, the serving release {usual:.2} (the limit is a factor of {limit}, \
             up or down)"
        ));
    }
    if events < TIMED_EVENTS || active.events < TIMED_EVENTS {
        return None;
    }
    // The slowest hundredth depends on the machine's load; where that hides a slow rule, the median shows it.
    let quantiles =
        [("half of", candidate.median_us(), active.median_us()), ("99 % of", candidate.p99_us(), active.p99_us())];
    let limit = limits.time_factor;
    let (share, took, usual) = quantiles.into_iter().find(|(_, took, usual)| *took > usual * limit)?;
    Some(format!(
        "{share} its events took up to {took:.0} µs, those of the serving release {usual:.0} µs (the limit is {limit} \
         times as long)"
    ))
}

/// Returns whether a step has lasted long enough and seen enough events.
pub(super) fn is_over(step: &Step, lasted_ms: i64, candidate: &Side) -> bool {
    lasted_ms >= step.seconds.cast_signed().saturating_mul(1000) && candidate.events >= step.events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use belfry_model::Outcome;

    use super::*;

    fn side(events: u64, outcome: impl Fn(u64) -> Outcome, notifications: usize, us: u64) -> Side {
        let mut side = Side::default();
        for event in 1..=events {
            let outcome = outcome(event);
            let count = if outcome == Outcome::Notifications { notifications } else { 0 };
            side.note(outcome, count, Duration::from_micros(us));
        }
        side
    }

    fn good(events: u64) -> Side {
        side(events, |_| Outcome::Notifications, 1, 20)
    }

    fn found(candidate: &Side) -> Option<String> {
        breach(&Limits::default(), candidate, &good(1000))
    }

    fn one_in(n: u64, outcome: Outcome) -> impl Fn(u64) -> Outcome {
        move |event| if event.is_multiple_of(n) { outcome } else { Outcome::Notifications }
    }

    #[test]
    fn one_that_does_as_well_goes_on() {
        assert_eq!(found(&good(1000)), None);
        assert_eq!(found(&side(1000, one_in(200, Outcome::Trapped), 1, 20)), None, "half a percent");
        assert_eq!(found(&side(1000, one_in(25, Outcome::Rejected), 1, 20)), None, "four percent");
        assert_eq!(found(&side(1000, |_| Outcome::Notifications, 1, 60)), None, "three times as long");
    }

    #[test]
    fn one_that_fails_is_found_soon() {
        let traps = |events| side(events, one_in(20, Outcome::Trapped), 1, 20);
        assert_eq!(found(&traps(59)), None, "two may be chance");
        assert!(found(&traps(60)).is_some_and(|reason| reason.starts_with("it failed on 3 of 60 events")));
    }

    #[test]
    fn one_that_rejects_more_is_found() {
        let reason = found(&side(100, one_in(10, Outcome::Rejected), 1, 20));
        assert!(reason.is_some_and(|reason| reason.starts_with("it rejected 10.0 %")));
    }

    #[test]
    fn one_that_tells_more_or_less_is_found() {
        for notifications in [10, 0] {
            let reason = found(&side(50, |_| Outcome::Notifications, notifications, 20));
            assert!(reason.is_some_and(|reason| reason.contains("notifications per event")), "{notifications}");
        }
    }

    #[test]
    fn one_that_takes_long_is_found() {
        assert_eq!(found(&side(199, |_| Outcome::Notifications, 1, 200)), None, "too few events for a verdict");
        let reason = found(&side(200, |_| Outcome::Notifications, 1, 200));
        assert!(reason.is_some_and(|reason| reason.starts_with("half of its events took")));
    }

    #[test]
    fn a_step_takes_its_time_and_its_events() {
        let step = Step { percent: 10.0, seconds: 60, events: 100 };
        assert!(is_over(&step, 60_000, &good(100)));
        assert!(!is_over(&step, 59_999, &good(100)));
        assert!(!is_over(&step, 600_000, &good(99)));
    }
}
