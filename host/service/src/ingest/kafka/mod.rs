//! Events from Kafka.
//!
//! Kafka's consumer group decides which replica reads which partition. The **reader**, a thread, polls the consumer and
//! turns records into events. The **committer**, a task, passes them through the pipeline. Each run of records from a
//! partition is committed together with the partition's position, which advances only if it has the value that the reader
//! expects. The position in the database is authoritative: it is read whenever a partition is assigned, a commit is fenced
//! or the database fails, and nothing in memory is trusted then. Offsets are committed to Kafka for its tools only, and
//! never read. The **source** supervises both: it chooses the topics, holds the replica's name, and restarts the consumer.

mod assignment;
mod callbacks;
mod check;
mod committer;
mod followed_group;
mod identity;
mod operate;
mod partition_batch;
mod positions;
mod reader;
mod recent_records;
mod record;
mod replica;
mod seek;
mod session;
mod source;
mod stopped_partitions;
mod topic_partition;
mod window;

pub use check::SourceError;
pub use operate::{OperateError, OtherGroup, PositionChange, PositionRow, SourcePositions, Target};
pub use positions::Unplaced;

pub(crate) use source::{KafkaSource, SourceSettings};
pub(crate) use stopped_partitions::Stopped;
