//! Reads ranges of partitions once, with a consumer that joins no group and leaves no trace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Client;

/// Time limit for Kafka to answer, and for the time between two records.
pub(crate) const SCAN_PATIENCE: Duration = Duration::from_secs(30);

/// A range of offsets in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// The first offset.
    pub(crate) start: i64,
    /// The first offset after the range.
    pub(crate) high: i64,
}

/// Why a scan did not complete.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Kafka cannot be read.
    #[error("Kafka: {0}; check kafka.brokers with `belfry doctor`")]
    Kafka(#[from] KafkaError),
    /// No record arrived in time.
    #[error("Kafka: nothing was read for {} seconds; try again, or run `belfry doctor`", SCAN_PATIENCE.as_secs())]
    Stalled,
}

impl Client {
    /// Returns a consumer for scans.
    pub(crate) fn scanner(&self, name: &str) -> KafkaResult<BaseConsumer> {
        let mut config = self.base();
        // The client library requires a group for any consumer. Nothing is committed for it.
        config.set("group.id", name);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        // Records that are fetched ahead count as memory, too.
        config.set("queued.max.messages.kbytes", "16384").set("fetch.message.max.bytes", "524288");
        config.create()
    }
}

/// Calls `each` for every record of the spans, in the order of each partition.
pub(crate) fn scan(
    consumer: &BaseConsumer,
    spans: &[Span],
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), ScanError> {
    let mut assignment = TopicPartitionList::new();
    let mut unfinished = BTreeMap::new();
    for span in spans.iter().filter(|span| span.start < span.high) {
        assignment.add_partition_offset(&span.topic, span.partition, Offset::Offset(span.start))?;
        unfinished.insert((span.topic.clone(), span.partition), span.high);
    }
    consumer.assign(&assignment)?;
    let mut last = Instant::now();
    while !unfinished.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let place = (message.topic().to_owned(), message.partition());
                let Some(high) = unfinished.get(&place).copied() else { continue };
                if message.offset() < high {
                    each(&message);
                }
                if message.offset() + 1 >= high {
                    unfinished.remove(&place);
                }
            }
            // The error does not name the topic, so the position in each is checked.
            Some(Err(KafkaError::PartitionEOF(_))) => drop_ended(consumer, &mut unfinished)?,
            Some(Err(error)) => return Err(error.into()),
            None if last.elapsed() > SCAN_PATIENCE => return Err(ScanError::Stalled),
            None => {
                drop_ended(consumer, &mut unfinished)?;
                continue;
            }
        }
        last = Instant::now();
    }
    Ok(())
}

/// Returns for each span the offset of the first record at or after this time, or the end of the span if there is none.
pub(crate) fn offsets_at(consumer: &BaseConsumer, spans: &[Span], ms: i64) -> KafkaResult<Vec<i64>> {
    let mut times = TopicPartitionList::with_capacity(spans.len());
    for span in spans {
        times.add_partition_offset(&span.topic, span.partition, Offset::Offset(ms.max(0)))?;
    }
    let found = consumer.offsets_for_times(times, SCAN_PATIENCE)?;
    let offset = |span: &Span| found.find_partition(&span.topic, span.partition).map(|element| element.offset());
    let start = |span: &Span| match offset(span) {
        Some(Offset::Offset(offset)) if offset >= 0 => offset,
        _ => span.high,
    };
    Ok(spans.iter().map(start).collect())
}

/// Removes finished spans, according to the consumer's position: transactions and deleted records leave offsets that no
/// record has.
fn drop_ended(consumer: &BaseConsumer, unfinished: &mut BTreeMap<(String, i32), i64>) -> KafkaResult<()> {
    let positions = consumer.position()?;
    unfinished.retain(|(topic, partition), high| {
        let position = positions.find_partition(topic, *partition).map(|element| element.offset());
        !matches!(position, Some(Offset::Offset(position)) if position >= *high)
    });
    Ok(())
}
