//! How Kafka is reached: the settings of its clients, what its topics take, where their partitions begin and end.

mod client;
mod cluster;
mod consumer;
mod logged;
mod start_at;
mod topics;

pub use client::KafkaConfigError;
pub use cluster::Watermarks;
pub use start_at::{InvalidStart, StartAt};
pub use topics::{Difference, TopicDifference, Topics, TopicsError};

pub(crate) use client::Client;
pub(crate) use cluster::Cluster;
pub(crate) use logged::{Logged, log};
