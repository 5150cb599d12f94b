//! Callbacks from librdkafka. They always run on the reader's thread, within a poll.
//!
//! Kafka's group decides which replica reads which partition, and nothing else: positions are read from the database.

use std::sync::Arc;
use std::time::Duration;

use belfry_store::crash_point;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::assignment::Assignment;
use super::positions::Positions;
use super::stopped_partitions::Stopped;
use super::topic_partition::Place;
use crate::kafka::log;

/// How long the revocation of a partition waits for runs in flight.
const REVOKE_PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Consuming = BaseConsumer<Callbacks>;

pub(super) struct Callbacks {
    pub(super) assignment: Arc<Assignment>,
    pub(super) positions: Arc<Positions>,
    pub(super) stopped: Stopped,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    /// Logs at debug level only: a poll returns the error as well, and the reader reports it.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the consumer reports an error");
    }

    /// Measures the lag from the high-water marks that fetches return, without a separate request.
    fn stats(&self, statistics: Statistics) {
        for (name, topic) in &statistics.topics {
            for (number, partition) in topic.partitions.iter().filter(|(_, partition)| partition.hi_offset >= 0) {
                if let Some(committed) = self.assignment.committed(&Place::new(name, *number)) {
                    let lag = (partition.hi_offset - committed).max(0);
                    lag_of(name, *number).set(lag as f64);
                }
            }
        }
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &Consuming, code: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            _ => self.revoke(consumer, partitions),
        };
        if let Err(error) = done {
            tracing::error!(%error, "the consumer cannot change its assignment");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The offsets are for Kafka's own tools, and the next ones are committed soon.
            tracing::debug!(%error, "kafka did not commit offsets");
        }
    }
}

impl Callbacks {
    fn assign(&self, consumer: &Consuming, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let places = places(partitions);
        let found = self.positions.of(&places).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the positions of new partitions; retrying");
            Vec::new()
        });
        let mut positions: Vec<(Place, Option<i64>)> = places.into_iter().map(|place| (place, None)).collect();
        for (place, position) in &mut positions {
            let found = found.iter().find(|(found, _)| found == place).map(|(_, position)| position);
            *position = found.and_then(|found| found.as_ref().ok().copied());
        }
        let mut starts = TopicPartitionList::with_capacity(positions.len());
        for (place, position) in &positions {
            // A partition whose position is unknown starts at its end, and its records are dropped until the seek.
            let offset = position.map_or(Offset::End, Offset::Offset);
            starts.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        for (place, position) in positions {
            tracing::info!(topic = %place.topic, partition = place.partition, position, "partition assigned");
            // If the partition cannot be read here either, that is detected again.
            self.stopped.go_on(&place);
            self.assignment.add(place, position);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
            _ => consumer.assign(&starts)?,
        }
        // A partition that was paused when it was revoked is still paused when it is assigned again, and nothing else would
        // resume it.
        consumer.resume(partitions)
    }

    fn revoke(&self, consumer: &Consuming, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let (places, lost) = (places(partitions), consumer.assignment_lost());
        let patience = if lost { Duration::ZERO } else { REVOKE_PATIENCE };
        let committed = self.assignment.remove(&places, patience);
        if !lost {
            commit_offsets(consumer, committed);
        }
        for place in &places {
            tracing::info!(topic = %place.topic, partition = place.partition, lost, "partition revoked");
            lag_of(&place.topic, place.partition).set(0.0);
            self.stopped.go_on(place);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
            _ => consumer.unassign(),
        }
    }
}

/// Commits the consumer group's offsets to Kafka, for its tools. Does not wait for the result. Belfry never reads them.
pub(super) fn commit_offsets(consumer: &Consuming, committed: Vec<(Place, i64)>) {
    if committed.is_empty() {
        return;
    }
    crash_point!("source.before-offset-commit");
    let mut offsets = TopicPartitionList::with_capacity(committed.len());
    for (place, position) in committed {
        // Only a negative offset is an error here, and positions are never negative.
        let _ = offsets.add_partition_offset(&place.topic, place.partition, Offset::Offset(position));
    }
    if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
        tracing::debug!(%error, "cannot commit the consumer group's offsets to kafka");
    }
    crash_point!("source.after-offset-commit");
}

fn places(partitions: &TopicPartitionList) -> Vec<Place> {
    partitions.elements().iter().map(|element| Place::new(element.topic(), element.partition())).collect()
}

fn lag_of(topic: &str, partition: i32) -> metrics::Gauge {
    metrics::gauge!("belfry_consumer_lag", "topic" => topic.to_owned(), "partition" => partition.to_string())
}
