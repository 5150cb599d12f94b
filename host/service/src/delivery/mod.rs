//! Delivery from the log to sinks and feeds. The log alone is authoritative: sinks read it from a position, and a wake is
//! only a hint that there is something to read.

pub mod feed;
mod health;
mod relay;
mod sink;

pub use health::BreakerState;
pub(crate) use health::SinkHealth;
pub(crate) use relay::Relay;
pub(crate) use sink::SinkSettings;
