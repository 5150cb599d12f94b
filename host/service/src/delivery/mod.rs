//! From the log to those who listen. The log is the only truth: sinks read it from a position, and a wake is just a hint
//! that there is something to read.

pub mod feed;
mod stdout;

pub(crate) use stdout::SINK as STDOUT;
pub use stdout::Stdout;
