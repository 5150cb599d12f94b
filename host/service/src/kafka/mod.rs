//! How Kafka is reached: the settings of its clients, and what its topics take.

mod client;
mod topics;

pub use client::{Client, KafkaConfigError};
pub use topics::Unsendable;
pub(crate) use topics::{FRAMING_BYTES, Topics, record_bytes};
