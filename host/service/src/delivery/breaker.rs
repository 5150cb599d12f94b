//! The health of a sink: closed, open or half-open. An outage is waited out; no entry is abandoned because of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::sync::watch;

/// The initial backoff after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A sink's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// The sink acknowledges entries.
    Closed,
    /// The sink failed; it is left alone for a time.
    Open,
    /// The sink is tried again.
    HalfOpen,
}

impl BreakerState {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }

    /// Returns its value in metrics.
    pub(crate) const fn number(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// A sink's health, and its errors.
#[derive(Clone, Debug)]
pub(crate) struct SinkHealth {
    pub(crate) breaker: BreakerState,
    /// The reason for the last failure, until the sink acknowledges again.
    pub(crate) error: Option<String>,
    /// Topics of which the sink accepts nothing, with the reason. Empty unless this replica serves the sink.
    pub(crate) held: BTreeMap<String, String>,
}

impl SinkHealth {
    /// The health of a sink that has not been tried yet.
    pub(crate) const UNTRIED: Self = Self { breaker: BreakerState::Closed, error: None, held: BTreeMap::new() };
}

/// A circuit breaker around one sink.
#[derive(Debug)]
pub(crate) struct Breaker {
    sink: &'static str,
    health: watch::Sender<SinkHealth>,
    failures: u32,
    longest_pause: Duration,
}

impl Breaker {
    pub(crate) fn new(sink: &'static str, longest_pause: Duration, health: watch::Sender<SinkHealth>) -> Self {
        let breaker = Self { sink, health, failures: 0, longest_pause };
        breaker.show(BreakerState::Closed);
        breaker
    }

    /// Notes that the sink acknowledged an entry.
    pub(crate) fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(sink = self.sink, "the sink has recovered");
            self.failures = 0;
            self.health.send_modify(|health| health.error = None);
            self.show(BreakerState::Closed);
        }
    }

    /// Notes that the sink failed. Returns how long to leave it alone: a random part of a span that doubles with each
    /// failure, so that replicas do not retry at the same time.
    pub(crate) fn failed(&mut self, error: &impl Display) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.health.send_modify(|health| health.error = Some(error.to_string()));
        self.show(BreakerState::Open);
        let span = (FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(16))).min(self.longest_pause);
        span.mul_f64(0.1 + 0.9 * fastrand::f64())
    }

    /// Returns the number of consecutive failures.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes that the sink is tried again.
    pub(crate) fn try_again(&self) {
        if self.failures > 0 {
            self.show(BreakerState::HalfOpen);
        }
    }

    fn show(&self, state: BreakerState) {
        self.health.send_modify(|health| health.breaker = state);
        metrics::gauge!("belfry_breaker_state", "sink" => self.sink).set(state.number());
    }
}
