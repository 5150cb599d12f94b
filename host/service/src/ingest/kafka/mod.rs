//! Events from Kafka.
//!
//! Who does what: Kafka's group says who reads which partition. The **reader**, a thread, polls the consumer and turns
//! records into events. The **committer**, a task, takes them through the pipeline; each run of a partition is committed
//! together with the partition's position, which moves only if it stands where the reader believes. The database's
//! position is the truth: it is looked up whenever a partition is assigned, a commit is fenced or the database failed,
//! and nothing in memory is trusted then. What Kafka remembers as offsets is written for its tools, and never read.
//! The **source** watches over both: which topics, whose name, and when to begin again.

mod assignment;
mod callbacks;
mod check;
mod committer;
mod gathered;
mod identity;
mod lead;
mod markers;
mod operate;
mod place;
mod positions;
mod reader;
mod record;
mod repeats;
mod replica;
mod seek;
mod session;
mod source;
mod stopped;
mod window;

pub use check::SourceError;
pub use operate::{Moved, OperateError, OtherGroup, PositionRow, SourcePositions, Target};
pub use positions::Unplaced;

pub(crate) use source::{KafkaSource, SourceSettings};
pub(crate) use stopped::Stopped;
