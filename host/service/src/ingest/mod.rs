//! The sources that Belfry reads events from.

pub mod kafka;
pub(crate) mod postgres;
