/// A partition of a topic, as read by one consumer group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePartition {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition number.
    pub partition: i32,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The partition.
    pub partition: SourcePartition,
    /// The offset of the next record to read.
    pub next: i64,
    /// Kafka's id of the topic that the position belongs to; `None` if it is unknown. A topic that is deleted and
    /// created again gets another id.
    pub topic_id: Option<String>,
}
