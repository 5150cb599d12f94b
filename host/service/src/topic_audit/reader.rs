//! Reads the topics with a consumer that joins no group and commits no offsets.

use std::collections::HashMap;

use belfry_model::ForeignTeacherNotification;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;
use serde::Deserialize;
use uuid::Uuid;

use super::finding::{Finding, FindingKind, Report};
use super::ledger::{Ledger, key_of, short};
use super::partitioner::key_hash;
use super::{AuditError, Progress};
use crate::kafka::{Client, SCAN_PATIENCE, ScanError, Span, headers, offsets_at, scan};

/// Tolerated difference between the clocks of the database and the replicas when a time determines where to begin.
const CLOCKS_MS: i64 = 600_000;
/// Limit on Belfry's records outside the range that are kept to be looked up.
const MAX_STRANGERS: usize = 1_000_000;
/// Records between two progress reports.
const TELL_EVERY: u64 = 10_000;

pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) topics: Vec<String>,
    /// When the first entry of the range was recorded, if the range has a beginning: earlier records are skipped.
    pub(super) since_ms: Option<i64>,
    /// The configured source service of Belfry's notifications, if any.
    pub(super) our_source: Option<String>,
}

/// What the reader found on the topics.
pub(super) struct Met {
    pub(super) ledger: Ledger,
    /// Belfry's records that are not in the ledger.
    pub(super) strangers: Vec<UnknownRecord>,
    /// The partitions of each topic. Those whose beginning the topic has deleted are marked as cut.
    pub(super) partitions: HashMap<String, Vec<Partition>>,
    /// The findings and counts that result from reading alone.
    pub(super) report: Report,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    id: i32,
    start: i64,
    high: i64,
    pub(super) cut: bool,
}

/// A record that Belfry made and that is not in the ledger.
pub(super) struct UnknownRecord {
    pub(super) event_id: Uuid,
    pub(super) topic: u16,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) effect: u64,
    /// Whether the log has it outside the range.
    pub(super) known: bool,
}

/// The parts of an envelope that an audit needs.
#[derive(Deserialize)]
struct Envelope<'a> {
    event_id: Option<Uuid>,
    #[serde(borrow)]
    source_service: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<ForeignTeacherNotification<'a>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    belfry: Option<Provenance>,
}

#[derive(Deserialize)]
struct Provenance {
    source_event_id: Uuid,
}

impl Reader {
    /// Reads all topics up to their current ends.
    pub(super) fn read(self, mut ledger: Ledger, progress: &impl Fn(Progress)) -> Result<Met, AuditError> {
        let consumer = self.client.scanner("belfry-audit")?;
        let partitions = self.partitions(&consumer)?;
        for topic in &self.topics {
            ledger.know_topic(topic);
        }
        let mut met = Met { ledger, strangers: Vec::new(), partitions, report: Report::default() };
        self.consume(&consumer, &mut met, progress)?;
        Ok(met)
    }

    fn partitions(&self, consumer: &BaseConsumer) -> Result<HashMap<String, Vec<Partition>>, AuditError> {
        let metadata = consumer.fetch_metadata(None, SCAN_PATIENCE)?;
        let mut found = HashMap::new();
        for topic in metadata.topics().iter().filter(|topic| self.topics.iter().any(|name| name == topic.name())) {
            let mut partitions = Vec::with_capacity(topic.partitions().len());
            for partition in topic.partitions() {
                let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), SCAN_PATIENCE)?;
                partitions.push(Partition { id: partition.id(), start: low, high, cut: low > 0 });
            }
            partitions.sort_by_key(|partition| partition.id);
            found.insert(topic.name().to_owned(), partitions);
        }
        if let Some(since_ms) = self.since_ms {
            skip_before(consumer, &mut found, since_ms - CLOCKS_MS)?;
        }
        Ok(found)
    }

    fn consume(&self, consumer: &BaseConsumer, met: &mut Met, progress: &impl Fn(Progress)) -> Result<(), ScanError> {
        let spans = spans(&met.partitions);
        let total = spans.iter().map(|span| (span.high - span.start).max(0) as u64).sum();
        scan(consumer, &spans, |message| {
            self.meet(message, met);
            if met.report.records.is_multiple_of(TELL_EVERY) {
                progress(Progress::Topics(met.report.records, total));
            }
        })
    }

    fn meet(&self, message: &BorrowedMessage<'_>, met: &mut Met) {
        met.report.records += 1;
        let Some(payload) = message.payload() else {
            met.report.foreign += 1;
            return;
        };
        let envelope: Option<Envelope<'_>> = serde_json::from_slice(payload).ok();
        let header = header_id(message);
        let event_id = header.or_else(|| envelope.as_ref()?.event_id);
        let (Some(event_id), Some(topic)) = (event_id, met.ledger.topic_number(message.topic())) else {
            met.report.foreign += 1;
            return;
        };
        let effect = envelope.as_ref().and_then(effect).unwrap_or(0);
        let (partition, offset) = (message.partition(), message.offset());
        let count = met.partitions.get(message.topic()).map_or(0, Vec::len) as u32;
        let key = message.key().unwrap_or_default();
        let Some(entry) = met.ledger.find(event_id, topic) else {
            let source = envelope.as_ref().and_then(|envelope| envelope.source_service.as_deref());
            let ours = effect != 0 || (source.is_some() && source == self.our_source.as_deref());
            if ours && met.strangers.len() < MAX_STRANGERS {
                met.strangers.push(UnknownRecord { event_id, topic, partition, offset, effect, known: false });
            } else {
                met.report.foreign += 1;
            }
            return;
        };
        entry.copies = entry.copies.saturating_add(1);
        if entry.copies > 1 {
            met.report.repeats += 1;
        } else {
            (entry.partition, entry.offset, entry.effect) = (partition, offset, effect);
        }
        let detail = if key_of(message.topic(), key) != entry.key {
            "its key is not the one in the log"
        } else if !key.is_empty() && key_hash(key) % count.max(1) != partition as u32 {
            "its key belongs to another partition; were partitions added?"
        } else {
            return;
        };
        met.report.add(Finding {
            kind: FindingKind::WrongPartition,
            topic: message.topic().to_owned(),
            event_id,
            position: Some(entry.position),
            partition: Some(partition),
            offset: Some(offset),
            detail: detail.to_owned(),
        });
        met.ledger.note_bad_key(key_of(message.topic(), key));
    }
}

/// Moves the start of each partition to its first record of this time or later.
fn skip_before(consumer: &BaseConsumer, found: &mut HashMap<String, Vec<Partition>>, ms: i64) -> KafkaResult<()> {
    let starts = offsets_at(consumer, &spans(found), ms)?;
    for (partition, start) in found.values_mut().flatten().zip(starts) {
        partition.cut &= start <= partition.start;
        partition.start = partition.start.max(start);
    }
    Ok(())
}

/// Returns the offsets to read, in the order of the map.
fn spans(partitions: &HashMap<String, Vec<Partition>>) -> Vec<Span> {
    let span = |topic: &String, partition: &Partition| Span {
        topic: topic.clone(),
        partition: partition.id,
        start: partition.start,
        high: partition.high,
    };
    let of_topic = |(topic, partitions): (&String, &Vec<Partition>)| {
        partitions.iter().map(|partition| span(topic, partition)).collect::<Vec<_>>()
    };
    partitions.iter().flat_map(of_topic).collect()
}

fn header_id(message: &BorrowedMessage<'_>) -> Option<Uuid> {
    let (_, value) = headers(message).into_iter().find(|(name, _)| *name == b"event_id")?;
    Uuid::try_parse_ascii(value?).ok()
}

/// Returns a hash of a notification's source event, recipient and type; `None` for a record that Belfry did not make.
fn effect(envelope: &Envelope<'_>) -> Option<u64> {
    let source = envelope.metadata.as_ref()?.belfry.as_ref()?.source_event_id;
    let data = envelope.data.as_ref()?;
    Some(short(&(source, data.teacher_id.as_deref(), data.notification_type.as_deref())).max(1))
}
