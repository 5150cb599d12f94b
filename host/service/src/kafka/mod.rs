//! How Kafka is reached: the settings of its clients, and what its topics take.

mod client;

pub(crate) use client::{Client, KafkaConfigError};
