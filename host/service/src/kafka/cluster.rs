//! Queries to the cluster that join no group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::topic_ids::{TopicId, topic_ids};
use super::{Client, Logged};
use crate::config::StartAt;

/// Time limit for the cluster to answer.
const REQUEST: Duration = Duration::from_secs(5);

/// The offsets at which a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The oldest offset that still exists.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

/// A topic of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    /// The partitions' numbers.
    pub(crate) partitions: Vec<i32>,
    /// The number of replicas of the partition that has the fewest.
    pub(crate) replication_factor: i32,
}

/// A client for a few queries. Its calls block, so it belongs on a thread that may be blocked.
pub(crate) struct Cluster {
    consumer: BaseConsumer<Logged>,
}

impl Client {
    /// Returns a client for queries. It connects at the first query.
    pub(crate) fn cluster(&self) -> KafkaResult<Cluster> {
        Ok(Cluster { consumer: self.base().create_with_context(Logged)? })
    }

    /// Returns a client for queries about a group's committed offsets.
    pub(crate) fn cluster_as_group(&self, group: &str) -> KafkaResult<Cluster> {
        Ok(Cluster { consumer: self.base().set("group.id", group).create_with_context(Logged)? })
    }
}

impl Cluster {
    /// Returns all topics.
    pub(crate) fn topics(&self) -> KafkaResult<BTreeMap<String, Topic>> {
        // A request for a single topic by name could create it.
        let metadata = self.consumer.fetch_metadata(None, REQUEST)?;
        let topics = metadata.topics().iter().map(|topic| {
            let copies = topic.partitions().iter().map(|partition| partition.replicas().len());
            let found = Topic {
                partitions: topic.partitions().iter().map(|partition| partition.id()).collect(),
                replication_factor: copies.min().and_then(|copies| i32::try_from(copies).ok()).unwrap_or(0),
            };
            (topic.name().to_owned(), found)
        });
        Ok(topics.filter(|(_, topic)| !topic.partitions.is_empty()).collect())
    }

    /// Returns the ids of those topics that exist and have one. Brokers assign topic ids since Kafka 2.8.
    pub(crate) fn topic_ids(&self, topics: &BTreeSet<String>) -> KafkaResult<BTreeMap<String, TopicId>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Errors are kept until the client is polled.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        // While no broker is reachable, two of librdkafka's threads wake each other without pause for as long as a request
        // like the one for ids is pending. The request for metadata waits without consuming CPU time.
        self.consumer.fetch_metadata(topics.first().map(String::as_str), REQUEST)?;
        topic_ids(self.consumer.client(), topics, REQUEST)
    }

    /// Returns the watermarks of a partition.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32) -> KafkaResult<Watermarks> {
        let (low, high) = self.consumer.fetch_watermarks(topic, partition, REQUEST)?;
        Ok(Watermarks { low, high })
    }

    /// Returns the offsets from which partitions would be read.
    pub(crate) fn starts(&self, topic: &str, partitions: &[i32], at: StartAt) -> KafkaResult<Vec<(i32, i64)>> {
        if let StartAt::Time(time_ms) = at {
            return self.starts_by_time(topic, partitions, time_ms);
        }
        let start = |partition: &i32| {
            let Watermarks { low, high } = self.watermarks(topic, *partition)?;
            Ok((*partition, if at == StartAt::Earliest { low } else { high }))
        };
        partitions.iter().map(start).collect()
    }

    fn starts_by_time(&self, topic: &str, partitions: &[i32], time_ms: i64) -> KafkaResult<Vec<(i32, i64)>> {
        let mut times = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            times.add_partition_offset(topic, *partition, Offset::Offset(time_ms.max(0)))?;
        }
        let found = self.consumer.offsets_for_times(times, REQUEST)?;
        let mut starts = Vec::with_capacity(partitions.len());
        for element in found.elements() {
            element.error()?;
            let start = match element.offset() {
                Offset::Offset(offset) => offset,
                // No record is that recent.
                _ => self.watermarks(topic, element.partition())?.high,
            };
            starts.push((element.partition(), start));
        }
        Ok(starts)
    }

    /// Returns the number of members that a group has now.
    pub(crate) fn members(&self, group: &str) -> KafkaResult<usize> {
        let groups = self.consumer.fetch_group_list(Some(group), REQUEST)?;
        Ok(groups.groups().iter().map(|group| group.members().len()).sum())
    }

    /// Returns the group's committed offsets of those partitions that have one.
    pub(crate) fn committed(&self, partitions: &[(String, i32)]) -> KafkaResult<Vec<(String, i32, i64)>> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            asked.add_partition(topic, *partition);
        }
        let answered = self.consumer.committed_offsets(asked, REQUEST)?;
        let mut committed = Vec::new();
        for element in answered.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                committed.push((element.topic().to_owned(), element.partition(), offset));
            }
        }
        Ok(committed)
    }
}
