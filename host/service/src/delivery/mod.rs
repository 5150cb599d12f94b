//! From the log to those who listen. The log is the only truth: sinks read it from a position, and a wake is just a hint
//! that there is something to read.

mod breaker;
pub mod feed;
mod outlet;
mod relay;

pub use breaker::BreakerState;
pub(crate) use breaker::SinkHealth;
pub(crate) use outlet::OutletSettings;
pub(crate) use relay::Relay;
