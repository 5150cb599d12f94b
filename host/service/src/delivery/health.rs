//! The health of a sink: closed, open or half-open. An outage is waited out; no entry is abandoned because of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::Backoff;

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

/// Notes whether a sink accepts entries, shows it, and decides how long to leave the sink alone after a failure.
#[derive(Debug)]
pub(crate) struct SinkHealthTracker {
    sink: &'static str,
    health: watch::Sender<SinkHealth>,
    backoff: Backoff,
}

impl SinkHealthTracker {
    pub(crate) fn new(sink: &'static str, longest_pause: Duration, health: watch::Sender<SinkHealth>) -> Self {
        let tracker = Self { sink, health, backoff: Backoff::up_to(longest_pause) };
        tracker.show(BreakerState::Closed);
        tracker
    }

    /// Notes that the sink acknowledged an entry.
    pub(crate) fn succeeded(&mut self) {
        if self.backoff.failures() > 0 {
            tracing::info!(sink = self.sink, "the sink has recovered");
            self.backoff.reset();
            self.health.send_modify(|health| health.error = None);
            self.show(BreakerState::Closed);
        }
    }

    /// Notes that the sink failed. Returns how long to leave it alone.
    pub(crate) fn failed(&mut self, error: &impl Display) -> Duration {
        self.health.send_modify(|health| health.error = Some(error.to_string()));
        self.show(BreakerState::Open);
        self.backoff.after_failure()
    }

    /// Returns the number of consecutive failures.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Notes that the sink is tried again.
    pub(crate) fn try_again(&self) {
        if self.backoff.failures() > 0 {
            self.show(BreakerState::HalfOpen);
        }
    }

    fn show(&self, state: BreakerState) {
        self.health.send_modify(|health| health.breaker = state);
        metrics::gauge!("belfry_breaker_state", "sink" => self.sink).set(state.number());
    }
}
