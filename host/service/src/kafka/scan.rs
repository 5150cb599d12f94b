//! Reads stretches of partitions once, with a consumer that has no group and leaves no trace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Client;

/// How long Kafka may take to answer, or go without a record.
pub(crate) const SCAN_PATIENCE: Duration = Duration::from_secs(30);

/// A stretch of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// The first offset.
    pub(crate) start: i64,
    /// The first offset that is not read any more.
    pub(crate) high: i64,
}

/// Why a scan came to no end.
#[derive(Debug)]
pub(crate) enum ScanError {
    Kafka(KafkaError),
    /// No record came for too long.
    Stalled,
}

impl From<KafkaError> for ScanError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl Client {
    /// A consumer to scan with.
    pub(crate) fn scanner(&self, name: &str) -> KafkaResult<BaseConsumer> {
        let mut config = self.base();
        // A client library wants one for any consumer; nothing is committed for it.
        config.set("group.id", name);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        // What is fetched ahead counts as memory too.
        config.set("queued.max.messages.kbytes", "16384").set("fetch.message.max.bytes", "524288");
        config.create()
    }
}

/// Hand over every record of the spans, in the order of each partition.
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
            // It does not say of which topic, so where each stands is looked at.
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

/// Where a span's records of this time begin; its end if none is that young.
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

/// Transactions and deleted records leave offsets behind that no record has: where the consumer stands tells the end.
fn drop_ended(consumer: &BaseConsumer, unfinished: &mut BTreeMap<(String, i32), i64>) -> KafkaResult<()> {
    let positions = consumer.position()?;
    unfinished.retain(|(topic, partition), high| {
        let position = positions.find_partition(topic, *partition).map(|element| element.offset());
        !matches!(position, Some(Offset::Offset(position)) if position >= *high)
    });
    Ok(())
}
