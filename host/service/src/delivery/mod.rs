//! Delivery from the log to sinks and feeds. The log alone is authoritative: sinks read it from a position, and a wake is
//! only a hint that there is something to read.

mod breaker;
pub mod feed;
mod outlet;
mod relay;

pub use breaker::BreakerState;
pub(crate) use breaker::SinkHealth;
pub(crate) use outlet::OutletSettings;
pub(crate) use relay::Relay;
