//! Access to Kafka: the settings of its clients, the limits of its topics, the watermarks of their partitions.

mod client;
mod cluster;
mod consumer;
mod limits;
mod logged;
mod native;
mod refusal;
mod scan;
mod topics;

pub use client::{Client, KafkaConfigError};
pub use cluster::Watermarks;
pub use limits::Unsendable;
pub use refusal::Refusal;
pub use topics::{Difference, TopicDifference, Topics, TopicsError};

pub(crate) use cluster::Cluster;
pub(crate) use limits::{TopicLimits, record_bytes};
pub(crate) use logged::{Logged, log};
pub(crate) use native::{TopicId, headers};
pub use scan::ScanError;
pub(crate) use scan::{SCAN_PATIENCE, Span, offsets_at, scan};
