//! Access to Kafka: the settings of its clients, the limits of its topics, the watermarks of their partitions.

mod client;
mod client_log;
mod cluster;
mod consumer;
mod limits;
mod record_headers;
mod refusal;
mod scan;
mod topic_ids;
mod topics;

pub use client::{Client, KafkaConfigError};
pub use cluster::Watermarks;
pub use limits::Unsendable;
pub use refusal::Refusal;
pub use topics::{Difference, TopicDifference, Topics, TopicsError};

pub(crate) use client_log::{Logged, log};
pub(crate) use cluster::Cluster;
pub(crate) use limits::{TopicLimits, record_bytes};
pub(crate) use record_headers::headers;
pub use scan::ScanError;
pub(crate) use scan::{SCAN_PATIENCE, Span, offsets_at, scan};
pub(crate) use topic_ids::TopicId;
