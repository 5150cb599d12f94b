//! Where partitions stand in the database, and where those begin that were never read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use belfry_store::{SourcePartition, Store, StoreError};
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::place::Place;
use crate::kafka::{Client, Cluster, StartAt};

/// How long the database may take to answer; a consumer that waits for longer is missed by its group.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why it is not known where a partition is to be read.
#[derive(Debug, thiserror::Error)]
pub enum Unplaced {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster does not answer.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Nobody said where to begin.
    #[error(
        "topic {topic} was never read by the group {group}, and nobody said where to begin; set kafka.start_at to \
         earliest, latest or an RFC 3339 time, or use `belfry position set`"
    )]
    NoStart {
        /// The topic.
        topic: String,
        /// The consumer group.
        group: String,
    },
}

/// Where a partition stands, or why that is not known.
pub(super) type Found = (Place, Result<i64, Unplaced>);

/// Looks positions up. All of it blocks, so it belongs on a thread of its own.
pub(super) struct Positions {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) start_at: Option<StartAt>,
    /// The group that is followed; nothing begins ahead of it.
    pub(super) behind: Option<String>,
    pub(super) runtime: Handle,
    /// Topics that were not there when this replica first looked. Everything in them is new.
    pub(super) newborn: Mutex<HashSet<String>>,
}

impl Positions {
    /// All positions of the group.
    pub(super) fn all(&self) -> Result<HashMap<(String, i32), i64>, StoreError> {
        let read = async { timeout(PATIENCE, self.store.source_positions(&self.group, None)).await };
        let read =
            self.runtime.block_on(read).map_err(|_| StoreError::Failed("positions: no answer in time".into()))??;
        Ok(read.into_iter().map(|(partition, next)| ((partition.topic, partition.partition), next)).collect())
    }

    /// Where these partitions stand. Those of them that are new begin now.
    pub(super) fn of(&self, places: &[Place]) -> Result<Vec<Found>, StoreError> {
        let mut known = self.all()?;
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let key = (place.topic.to_string(), place.partition);
            if !known.contains_key(&key) {
                match self.begin_topic(&place.topic) {
                    Ok(()) => known = self.all()?,
                    Err(error) => {
                        found.push((place.clone(), Err(error)));
                        continue;
                    }
                }
            }
            let gone = || StoreError::Failed("a position that was just noted is gone".into());
            found.push((place.clone(), known.get(&key).copied().ok_or_else(|| gone().into())));
        }
        Ok(found)
    }

    fn begin_topic(&self, topic: &str) -> Result<(), Unplaced> {
        let cluster = self.client.cluster()?;
        let topics = cluster.topics()?;
        let partitions = topics.get(topic).map(|topic| topic.partitions.clone()).unwrap_or_default();
        self.begin(&cluster, topic, &partitions)?;
        Ok(())
    }

    /// Let a topic's partitions begin that were never read; gives where all of them stand.
    pub(super) fn begin(
        &self,
        cluster: &Cluster,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, i64>, Unplaced> {
        let known = self.of_topic(topic)?;
        let new: Vec<i32> = partitions.iter().filter(|partition| !known.contains_key(partition)).copied().collect();
        if new.is_empty() {
            return Ok(known);
        }
        let mut starts = cluster.starts(topic, &new, self.start_of(topic, known.is_empty())?)?;
        self.hold_back(topic, &mut starts)?;
        for (partition, position) in &starts {
            tracing::info!(topic, partition, position, group = self.group, "a partition is read for the first time");
        }
        let partition =
            |number| SourcePartition { group: self.group.clone(), topic: topic.to_owned(), partition: number };
        let starts: Vec<_> = starts.into_iter().map(|(number, start)| (partition(number), start)).collect();
        self.runtime.block_on(self.store.begin_sources(&starts))?;
        // Another replica may have been faster.
        Ok(self.of_topic(topic)?)
    }

    /// Whoever begins ahead of a group that lags would wait where the group may never come to, and could not follow it
    /// without a gap.
    fn hold_back(&self, topic: &str, starts: &mut [(i32, i64)]) -> Result<(), Unplaced> {
        let Some(group) = &self.behind else { return Ok(()) };
        let asked: Vec<(String, i32)> = starts.iter().map(|(partition, _)| (topic.to_owned(), *partition)).collect();
        for (_, partition, committed) in self.client.cluster_as_group(group)?.committed(&asked)? {
            if let Some((_, start)) = starts.iter_mut().find(|(number, _)| *number == partition) {
                *start = committed.min(*start);
            }
        }
        Ok(())
    }

    /// A partition that was added to a topic we read has only records that came since then; so has a topic that was not
    /// there when we came.
    fn start_of(&self, topic: &str, never_read: bool) -> Result<StartAt, Unplaced> {
        let newborn = self.newborn.lock().unwrap_or_else(PoisonError::into_inner).contains(topic);
        if newborn || !never_read {
            return Ok(StartAt::Earliest);
        }
        self.start_at.ok_or_else(|| Unplaced::NoStart { topic: topic.to_owned(), group: self.group.clone() })
    }

    /// The topic is not there yet.
    pub(super) fn missing(&self, topic: &str) -> bool {
        self.newborn.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned())
    }

    pub(super) fn of_topic(&self, topic: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
        let known = self.runtime.block_on(self.store.source_positions(&self.group, Some(topic)))?;
        Ok(known.into_iter().map(|(partition, next)| (partition.partition, next)).collect())
    }
}
