//! Growing pauses between attempts at something that fails.

use std::time::Duration;

/// The pauses between consecutive failures. Each is a random part of a span that doubles up to a limit, so that replicas do
/// not retry at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

/// The first span between attempts at a database, a sink or a source.
const FIRST: Duration = Duration::from_millis(100);

impl Backoff {
    /// Creates the pauses between attempts at a database, a sink or a source.
    pub(crate) const fn up_to(longest: Duration) -> Self {
        Self::new(FIRST, longest)
    }

    /// Creates pauses from a first span up to the longest one.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Notes a failure, and returns the pause before the next attempt: between a tenth of the span and all of it.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let span = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        span.mul_f64(0.1 + 0.9 * fastrand::f64())
    }

    /// Notes a success.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the number of consecutive failures.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_again_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        for span in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.after_failure();
            assert!(pause >= ms(span / 10) && pause <= ms(span), "{pause:?} of {span} ms");
        }
        assert_eq!(backoff.failures(), 6);
        backoff.reset();
        assert!(backoff.after_failure() <= ms(100));
        backoff.failures = u32::MAX;
        assert!(backoff.after_failure() <= ms(1000));
    }
}
