use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use crate::{Origin, Receipt, Submission, UNSTORABLE};

/// What is committed together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events and what follows from them; they stay together in the log, in this order.
    pub submissions: Vec<Submission>,
    /// Records of a source that are no events. They become dead letters.
    pub unreadable: Vec<Unreadable>,
    /// How far the source has been read with this.
    pub advance: Option<Advance>,
}

impl Batch {
    /// Of events that no source keeps a position for.
    pub fn of(submissions: Vec<Submission>) -> Self {
        Self { submissions, ..Self::default() }
    }

    /// Rows that it adds to the log.
    pub fn entries(&self) -> usize {
        self.submissions.iter().map(Submission::entries).sum()
    }

    /// Bytes that it holds in memory, roughly.
    pub fn bytes(&self) -> usize {
        let events: usize = self.submissions.iter().map(Submission::bytes).sum();
        events + self.unreadable.iter().map(|record| record.payload.len()).sum::<usize>()
    }
}

/// Batches of one sender that stand behind each other: once one of them was not committed, none behind it is. Otherwise
/// the sender, who brings all of them again, would find the later ones in the log before the earlier ones. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Run {
    broken: Arc<AtomicBool>,
}

impl Run {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

/// A partition of a topic, as one consumer group reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePartition {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The partition.
    pub partition: SourcePartition,
    /// The offset of the next record to be read.
    pub next: i64,
    /// Which topic of this name the position belongs to, as Kafka names it; none if that is not known. A topic that is
    /// deleted and made anew has another id.
    pub topic_id: Option<String>,
}

/// A step of a source's position. It takes place only if the position is still where the reader believes it is:
/// otherwise somebody else reads the partition now, and nothing of the batch takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: SourcePartition,
    /// The offset at which the batch begins.
    pub expected: i64,
    /// The offset of the next record to be read after it.
    pub next: i64,
}

/// A record that is no event, or another event than the one taken under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The topic it came from, or the source's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The event's id, if that much could be read.
    pub event_id: Option<Uuid>,
    /// From the vocabulary of outcomes.
    pub cause: &'static str,
    /// In words for operators. Quotes nothing of the record.
    pub detail: String,
    /// The record's value.
    pub payload: Bytes,
}

impl Unreadable {
    /// A record under whose id another event was taken before.
    pub fn conflict(origin: &Origin, event_id: Uuid, payload: Bytes) -> Self {
        Self {
            topic: origin.topic.clone(),
            partition: origin.partition,
            offset: origin.offset,
            event_id: Some(event_id),
            // From the vocabulary of outcomes.
            cause: "conflict",
            detail: "another event was taken under this id before; its producer must not use an id twice".into(),
            payload,
        }
    }

    /// An event that the database cannot hold.
    pub(crate) fn unstorable(origin: &Origin, event_id: Uuid, detail: String, payload: Bytes) -> Self {
        Self { cause: UNSTORABLE, detail, ..Self::conflict(origin, event_id, payload) }
    }

    /// A record on which Belfry itself failed.
    pub fn fault(origin: &Origin, event_id: Option<Uuid>, payload: Bytes) -> Self {
        Self {
            topic: origin.topic.clone(),
            partition: origin.partition,
            offset: origin.offset,
            event_id,
            cause: "undecodable",
            detail: "belfry failed on this record, which is a fault of belfry's; report it, with the record".into(),
            payload,
        }
    }

    /// An event that could never be published.
    pub fn unsendable(origin: &Origin, event_id: Uuid, detail: String, payload: Bytes) -> Self {
        Self { cause: "malformed", detail, ..Self::conflict(origin, event_id, payload) }
    }
}

/// What became of a batch. Once it is given, it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchReceipt {
    /// Committed; one receipt for each submission, in order.
    Committed(Vec<Receipt>),
    /// The source's position is elsewhere: nothing of the batch took effect.
    Fenced,
}
