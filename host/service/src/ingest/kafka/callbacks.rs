//! What librdkafka tells the source, always on the reader's thread, within a poll.
//!
//! Kafka's group says who reads which partition, and nothing else: where to read is looked up in the database.

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
use super::place::Place;
use super::positions::Positions;
use super::stopped::Stopped;
use crate::kafka::log;

/// How long a partition that is taken away waits for what is under way.
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

    /// A poll gives it as well, and the reader tells of it.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the consumer reports");
    }

    /// The ends of partitions as fetches brought them along: nobody is asked for the lag.
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
            tracing::error!(%error, "the consumer cannot change its partitions");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // They are for Kafka's own tools, and the next ones are told soon.
            tracing::debug!(%error, "kafka did not note offsets");
        }
    }
}

impl Callbacks {
    fn assign(&self, consumer: &Consuming, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let places = places(partitions);
        let found = self.positions.of(&places).unwrap_or_else(|error| {
            tracing::warn!(%error, "the positions of new partitions cannot be read; trying again until they can");
            Vec::new()
        });
        let mut positions: Vec<(Place, Option<i64>)> = places.into_iter().map(|place| (place, None)).collect();
        for (place, position) in &mut positions {
            let found = found.iter().find(|(found, _)| found == place).map(|(_, position)| position);
            *position = found.and_then(|found| found.as_ref().ok().copied());
        }
        let mut starts = TopicPartitionList::with_capacity(positions.len());
        for (place, position) in &positions {
            // One whose position is not known is read nowhere: its records are dropped, until it is sought.
            let offset = position.map_or(Offset::End, Offset::Offset);
            starts.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        for (place, position) in positions {
            tracing::info!(topic = %place.topic, partition = place.partition, position, "a partition is ours");
            // If it cannot be read here either, that is found again.
            self.stopped.go_on(&place);
            self.assignment.add(place, position);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
            _ => consumer.assign(&starts)?,
        }
        // One that was paused when it was taken away is still paused when it comes back, and nobody would ever resume it.
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
            tracing::info!(topic = %place.topic, partition = place.partition, lost, "a partition is no longer ours");
            lag_of(&place.topic, place.partition).set(0.0);
            self.stopped.go_on(place);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
            _ => consumer.unassign(),
        }
    }
}

/// Tell Kafka how far we are, for its tools. Nobody waits for it, and nobody here ever reads it.
pub(super) fn commit_offsets(consumer: &Consuming, committed: Vec<(Place, i64)>) {
    if committed.is_empty() {
        return;
    }
    crash_point!("source.before-offset-commit");
    let mut offsets = TopicPartitionList::with_capacity(committed.len());
    for (place, position) in committed {
        // Positions are never negative, which is all that could be refused.
        let _ = offsets.add_partition_offset(&place.topic, place.partition, Offset::Offset(position));
    }
    if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
        tracing::debug!(%error, "kafka could not be told how far we are");
    }
    crash_point!("source.after-offset-commit");
}

fn places(partitions: &TopicPartitionList) -> Vec<Place> {
    partitions.elements().iter().map(|element| Place::new(element.topic(), element.partition())).collect()
}

fn lag_of(topic: &str, partition: i32) -> metrics::Gauge {
    metrics::gauge!("belfry_consumer_lag", "topic" => topic.to_owned(), "partition" => partition.to_string())
}
