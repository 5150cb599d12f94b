//! Records that were read together, grouped by partition.

use belfry_store::{Advance, SourcePartition};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::assignment::Generation;
use super::recent_records::Fingerprint;
use super::record::Record;
use super::topic_partition::Place;
use crate::pipeline::Reading;

/// Maximum size of events between the reader and their commit, in bytes. A larger record passes alone.
pub(super) const ROOM_BYTES: usize = 8 << 20;

/// A run of records from one partition.
pub(super) struct PartitionBatch {
    pub(super) place: Place,
    pub(super) generation: Generation,
    expected: i64,
    /// The offset after the last record.
    pub(super) next: i64,
    /// For each record, whether it was JSON.
    pub(super) decoded: Vec<bool>,
    bytes: usize,
    reading: Reading,
    summary: RunSummary,
}

/// Data to count and to remember once the run is committed.
#[derive(Default)]
pub(super) struct RunSummary {
    pub(super) next: i64,
    /// For each event, the header's id and the fingerprint by which a repetition is recognized.
    pub(super) fingerprints: Vec<Option<(Uuid, Fingerprint)>>,
    /// The number of records that were committed before, byte for byte.
    pub(super) repeated: u64,
    /// Why the other records are not events.
    pub(super) causes: Vec<&'static str>,
}

/// A run on its way to be committed.
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) generation: Generation,
    pub(super) reading: Reading,
    pub(super) summary: RunSummary,
    /// The total size of the records' values.
    pub(super) bytes: usize,
    /// The permits that it holds between the reader and the commit, once it is handed over.
    pub(super) held: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Returns the number of permits that it needs out of [`ROOM_BYTES`].
    pub(super) fn room(&self) -> u32 {
        u32::try_from(self.bytes.min(ROOM_BYTES)).unwrap_or(u32::MAX)
    }
}

impl PartitionBatch {
    pub(super) fn new(place: Place, generation: Generation, expected: i64) -> Self {
        Self {
            place,
            generation,
            expected,
            next: expected,
            decoded: Vec::new(),
            bytes: 0,
            reading: Reading::default(),
            summary: RunSummary::default(),
        }
    }

    /// Adds the next record. `bytes` is the size of its value.
    pub(super) fn add(&mut self, offset: i64, bytes: usize, record: Record) {
        self.next = offset + 1;
        self.bytes += bytes;
        let mut decoded = true;
        match record {
            Record::Event(event, fingerprint) => {
                self.reading.events.push(*event);
                self.summary.fingerprints.push(fingerprint);
            }
            Record::Unreadable(unreadable) => {
                decoded = unreadable.cause != belfry_model::Outcome::Undecodable.as_str();
                self.summary.causes.push(unreadable.cause);
                self.reading.unreadable.push(unreadable);
            }
            Record::Repeated => self.summary.repeated += 1,
            Record::Tombstone => {}
        }
        self.decoded.push(decoded);
    }

    /// Turns the run into a job that commits it for this consumer group.
    pub(super) fn into_job(mut self, group: &str) -> Job {
        let partition = SourcePartition {
            group: group.to_owned(),
            topic: self.place.topic.to_string(),
            partition: self.place.partition,
        };
        self.reading.advance = Some(Advance { partition, expected: self.expected, next: self.next });
        self.summary.next = self.next;
        let Self { place, generation, reading, summary, bytes, .. } = self;
        Job { place, generation, reading, summary, bytes, held: None }
    }
}
