use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use crate::{Origin, Receipt, SourcePartition, Submission, UNSTORABLE};

/// A unit of work that is committed atomically.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events and what results from them. They stay together in the log, in this order.
    pub submissions: Vec<Submission>,
    /// Records of a source that are not events. They become dead letters.
    pub unreadable: Vec<Unreadable>,
    /// How this batch advances the source's position; `None` if the source has none.
    pub advance: Option<Advance>,
}

impl Batch {
    /// Returns a batch of events from a source without a position.
    pub fn of(submissions: Vec<Submission>) -> Self {
        Self { submissions, ..Self::default() }
    }

    /// Returns the number of rows that the batch adds to the log.
    pub fn entries(&self) -> usize {
        self.submissions.iter().map(Submission::entries).sum()
    }

    /// Returns the approximate number of bytes that the batch holds in memory.
    pub fn bytes(&self) -> usize {
        let events: usize = self.submissions.iter().map(Submission::bytes).sum();
        events + self.unreadable.iter().map(|record| record.payload.len()).sum::<usize>()
    }
}

/// A sequence of batches from one sender: once one of them fails to commit, none after it is committed. Otherwise the
/// sender, which submits all of them again, would find the later batches in the log before the earlier ones. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub struct BatchChain {
    broken: Arc<AtomicBool>,
}

impl BatchChain {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

/// A step of a source's position. It takes effect only if the position is still the one that the reader expects.
/// Otherwise another reader has taken over the partition, and nothing of the batch takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: SourcePartition,
    /// The offset at which the batch begins, which must be the current position.
    pub expected: i64,
    /// The offset of the next record to read after the batch.
    pub next: i64,
}

/// A record that is not an event, or that differs from the event recorded under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The topic it came from, or the source's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
    /// The event's id, if it could be read.
    pub event_id: Option<Uuid>,
    /// A code of [`belfry_model::Outcome`].
    pub cause: &'static str,
    /// A description for operators. Quotes nothing of the record.
    pub detail: String,
    /// The record's value.
    pub payload: Bytes,
}

impl Unreadable {
    /// Describes a record whose id belongs to another, earlier event.
    pub fn conflict(origin: &Origin, event_id: Uuid, payload: Bytes) -> Self {
        Self {
            topic: origin.topic.clone(),
            partition: origin.partition,
            offset: origin.offset,
            event_id: Some(event_id),
            // A code of `belfry_model::Outcome`.
            cause: "conflict",
            detail: "another event was recorded under this id before; a producer must not use an id twice".into(),
            payload,
        }
    }

    /// Describes an event that the database cannot hold.
    pub(crate) fn unstorable(origin: &Origin, event_id: Uuid, detail: String, payload: Bytes) -> Self {
        Self { cause: UNSTORABLE, detail, ..Self::conflict(origin, event_id, payload) }
    }

    /// Describes a record on which Belfry itself failed.
    pub fn fault(origin: &Origin, event_id: Option<Uuid>, payload: Bytes) -> Self {
        Self {
            topic: origin.topic.clone(),
            partition: origin.partition,
            offset: origin.offset,
            event_id,
            cause: "undecodable",
            detail: "belfry failed on this record, which is a bug in belfry; report it, with the record".into(),
            payload,
        }
    }

    /// Describes an event that could never be published.
    pub fn unsendable(origin: &Origin, event_id: Uuid, detail: String, payload: Bytes) -> Self {
        Self { cause: "malformed", detail, ..Self::conflict(origin, event_id, payload) }
    }
}

/// The outcome of a batch. It is durable when the sender receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchReceipt {
    /// Committed. Holds one receipt for each submission, in order.
    Committed(Vec<Receipt>),
    /// The source's position has changed: nothing of the batch took effect.
    Fenced,
}
