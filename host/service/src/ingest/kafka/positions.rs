//! The positions of partitions in the database, and the start positions of partitions that were never read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belfry_model::sabotaged;
use belfry_store::{SourcePartition, SourcePosition, Store, StoreError};
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::topic_partition::Place;
use crate::config::StartAt;
use crate::kafka::{Client, Cluster, TopicId};

/// Time limit for the database to answer. A consumer that is blocked for too long is removed from its group.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the position of a partition cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum Unplaced {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster does not answer.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// No start position is configured.
    #[error(
        "topic {topic} was never read by the group {group}, and no start position is configured; set kafka.start_at to \
         earliest, latest or an RFC 3339 time, or use `belfry position set`"
    )]
    NoStart {
        /// The topic.
        topic: String,
        /// The consumer group.
        group: String,
    },
    /// The topic to which the position belongs was deleted.
    #[error(
        "topic {topic} partition {partition}: the topic was deleted and recreated (its id was {was} and is {is}), so the \
         position {position} is not valid in it; to read the new topic from its beginning: \
         belfry position set {topic} {partition} earliest"
    )]
    MadeAnew {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position.
        position: i64,
        /// The id of the topic that was read.
        was: TopicId,
        /// The id of the current topic.
        is: TopicId,
    },
}

/// The position of a partition, or why it cannot be determined.
pub(super) type PositionLookup = (Place, Result<i64, Unplaced>);

/// Reads and creates positions. All calls block, so they belong on a dedicated thread.
pub(super) struct Positions {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) start_at: Option<StartAt>,
    /// The group that is followed. No partition starts ahead of it.
    pub(super) behind: Option<String>,
    pub(super) runtime: Handle,
    /// Topics that did not exist when this replica first checked. All of their records are new.
    pub(super) newborn: Mutex<HashSet<String>>,
    /// For repeated queries.
    pub(super) cluster: Cluster,
    /// The ids of topics, as first seen or as of the last check.
    pub(super) seen_ids: Mutex<BTreeMap<String, TopicId>>,
}

/// The position of a partition in the database.
struct Known {
    next: i64,
    topic_id: Option<TopicId>,
}

impl Positions {
    /// Returns all positions of the group.
    fn all(&self) -> Result<HashMap<(String, i32), Known>, StoreError> {
        let read = async { timeout(PATIENCE, self.store.source_positions(&self.group, None)).await };
        let read =
            self.runtime.block_on(read).map_err(|_| StoreError::Failed("positions: no answer in time".into()))??;
        let known = |SourcePosition { partition, next, topic_id }| {
            ((partition.topic, partition.partition), Known { next, topic_id })
        };
        Ok(read.into_iter().map(known).collect())
    }

    /// Returns whether the group has never read anything.
    pub(super) fn never_read(&self) -> Result<bool, StoreError> {
        Ok(self.all()?.is_empty())
    }

    /// Returns the ids of those topics that have one.
    fn ids(&self, topics: &BTreeSet<String>) -> KafkaResult<BTreeMap<String, TopicId>> {
        let ids = self.cluster.topic_ids(topics)?;
        let mut seen = self.lock_ids();
        for (topic, id) in &ids {
            seen.entry(topic.clone()).or_insert_with(|| id.clone());
        }
        drop(seen);
        Ok(ids)
    }

    /// Returns those topics that were recreated since the last check, as shown by their ids.
    pub(super) fn made_anew(&self, topics: &BTreeSet<String>) -> KafkaResult<Vec<String>> {
        let before = self.lock_ids().clone();
        let ids = self.ids(topics)?;
        self.lock_ids().extend(ids.clone());
        let is_another = |(topic, id): &(String, TopicId)| before.get(topic).is_some_and(|before| before != id);
        Ok(ids.into_iter().filter(is_another).map(|(topic, _)| topic).collect())
    }

    fn lock_ids(&self) -> MutexGuard<'_, BTreeMap<String, TopicId>> {
        self.seen_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the positions of these partitions. New partitions get their start positions now.
    pub(super) fn of(&self, places: &[Place]) -> Result<Vec<PositionLookup>, StoreError> {
        let mut known = self.all()?;
        let ids = match self.ids(&places.iter().map(|place| place.topic.to_string()).collect()) {
            Ok(ids) => ids,
            Err(error) => return Ok(places.iter().map(|place| (place.clone(), Err(error.clone().into()))).collect()),
        };
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
            let position = match known.get(&key) {
                Some(known) => self.verify(place, known, ids.get(&key.0)),
                None => Err(StoreError::Failed("a position that was just stored is gone".into()).into()),
            };
            found.push((place.clone(), position));
        }
        Ok(found)
    }

    /// Returns the position if it belongs to the current topic. If no topic id is stored with it yet, stores the current
    /// one.
    fn verify(&self, place: &Place, known: &Known, id: Option<&TopicId>) -> Result<i64, Unplaced> {
        let Some(is) = id.filter(|_| !sabotaged("topic-id")) else { return Ok(known.next) };
        match &known.topic_id {
            Some(was) if was != is => Err(Unplaced::MadeAnew {
                topic: place.topic.to_string(),
                partition: place.partition,
                position: known.next,
                was: was.clone(),
                is: is.clone(),
            }),
            Some(_) => Ok(known.next),
            None => {
                let note = async { timeout(PATIENCE, self.store.note_topic_id(&self.group, &place.topic, is)).await };
                self.runtime
                    .block_on(note)
                    .map_err(|_| StoreError::Failed("a topic's id: no answer in time".into()))??;
                Ok(known.next)
            }
        }
    }

    fn begin_topic(&self, topic: &str) -> Result<(), Unplaced> {
        let cluster = self.client.cluster()?;
        let topics = cluster.topics()?;
        let partitions = topics.get(topic).map(|topic| topic.partitions.clone()).unwrap_or_default();
        self.begin(&cluster, topic, &partitions)?;
        Ok(())
    }

    /// Creates start positions for those partitions of a topic that were never read. Returns the positions of the whole
    /// topic.
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
        // The id is read before anything else: if the topic is recreated in the meantime, that is detected.
        let topic_id = self.ids(&BTreeSet::from([topic.to_owned()]))?.remove(topic);
        let mut starts = cluster.starts(topic, &new, self.start_of(topic, known.is_empty())?)?;
        self.hold_back(topic, &mut starts)?;
        for (partition, position) in &starts {
            tracing::info!(topic, partition, position, group = self.group, "a partition is read for the first time");
        }
        let partition =
            |number| SourcePartition { group: self.group.clone(), topic: topic.to_owned(), partition: number };
        let noted = |(number, next)| SourcePosition { partition: partition(number), next, topic_id: topic_id.clone() };
        let starts: Vec<SourcePosition> = starts.into_iter().map(noted).collect();
        self.runtime.block_on(self.store.begin_sources(&starts))?;
        // Another replica may have been faster.
        Ok(self.of_topic(topic)?)
    }

    /// Lowers start positions to the offsets of the group that is followed. A source that starts ahead of a lagging group
    /// would wait at an offset that the group may never reach, and could not follow it without a gap.
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

    /// Returns where a new partition starts. A partition that was added to a topic already being read has only records
    /// written since then, so it starts at the earliest. The same holds for a topic that did not exist when this replica
    /// first checked.
    fn start_of(&self, topic: &str, never_read: bool) -> Result<StartAt, Unplaced> {
        let newborn = self.newborn.lock().unwrap_or_else(PoisonError::into_inner).contains(topic);
        if newborn || !never_read {
            return Ok(StartAt::Earliest);
        }
        self.start_at.ok_or_else(|| Unplaced::NoStart { topic: topic.to_owned(), group: self.group.clone() })
    }

    /// Notes that a topic does not exist yet. Returns whether that is news.
    pub(super) fn missing(&self, topic: &str) -> bool {
        self.newborn.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned())
    }

    fn of_topic(&self, topic: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
        let known = self.runtime.block_on(self.store.source_positions(&self.group, Some(topic)))?;
        Ok(known.into_iter().map(|known| (known.partition.partition, known.next)).collect())
    }
}
