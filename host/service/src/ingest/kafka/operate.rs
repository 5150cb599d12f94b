//! Positions as operators see and set them, whether or not a replica reads meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use belfry_sandbox::Description;
use belfry_store::{OpenError, SourcePartition, SourcePosition, Store, StoreError, StoreSettings};
use rdkafka::error::KafkaError;
use uuid::Uuid;

use crate::clock::now_ms;
use crate::config::{Config, SecretError, SourceTopics};
use crate::kafka::{Client, KafkaConfigError, Refusal, StartAt, TopicId, Watermarks};

/// The row whose epoch tells replicas that positions of the group were set.
pub(super) fn source_row(group: &str) -> String {
    format!("source:{group}")
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to be read; none if it was never read.
    pub position: Option<i64>,
    /// Where it begins and ends; none if it is not there.
    pub watermarks: Option<Watermarks>,
    /// Where the group stands that is shown beside; none if it has committed nothing.
    pub beside: Option<i64>,
}

/// Where another group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherGroup {
    /// How many members it has now.
    pub members: usize,
    /// What it has committed.
    committed: BTreeMap<(String, i32), i64>,
}

/// A position that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where it stood.
    pub was: Option<i64>,
    /// Where it stands.
    pub is: i64,
}

/// Where to set a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// At this offset.
    Offset(i64),
    /// At a place that the cluster knows.
    Start(StartAt),
}

/// Why positions can be neither shown nor set.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no cluster.
    #[error("kafka.brokers: not set; set it, such as kafka-1:9092")]
    NoBrokers,
    /// Kafka's clients cannot be made.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster does not answer.
    #[error("kafka: {0}; check kafka.brokers, and that the broker runs")]
    Kafka(#[from] KafkaError),
    /// The cluster does not let us in.
    #[error("kafka: {0}")]
    Refused(Refusal),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// The partition has no such offset.
    #[error(
        "topic {topic} partition {partition} has offsets {} to {}, not {offset}; nothing was set",
        watermarks.low,
        watermarks.high
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
        /// What there is.
        watermarks: Watermarks,
    },
    /// The call was cut off.
    #[error("the call was cut off")]
    CutOff,
}

/// The positions of the configured group.
pub struct SourcePositions {
    store: Store,
    client: Client,
    group: String,
    topics: SourceTopics,
}

impl SourcePositions {
    /// Open the configured store, as it is.
    pub async fn open(config: &Config) -> Result<Self, OperateError> {
        if config.kafka.brokers.is_empty() {
            return Err(OperateError::NoBrokers);
        }
        let client = Client::new(&config.kafka, None)?;
        let store = Store::open(&StoreSettings { migrate: false, ..config.store.settings()? }).await?;
        Ok(Self { store, client, group: config.kafka.group.clone(), topics: config.kafka.topics.clone() })
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Another group, in the topics that are read here.
    pub async fn other_group(&self, group: &str) -> Result<OtherGroup, OperateError> {
        let (topics, group) = (self.topics().await?, group.to_owned());
        self.ask(move |client| {
            let partitions = partitions_of(&client, topics)?;
            let cluster = client.cluster_as_group(&group)?;
            let members = cluster.members(&group)?;
            let committed = cluster.committed(&partitions)?;
            let committed = committed.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset));
            Ok(OtherGroup { members, committed: committed.collect() })
        })
        .await
    }

    /// Every partition that is read or was, and where another group stands in it.
    pub async fn show(&self, beside: Option<&OtherGroup>) -> Result<Vec<PositionRow>, OperateError> {
        let positions = self.positions().await?;
        let mut topics = self.topics().await?;
        topics.extend(positions.keys().map(|(topic, _)| topic.clone()));
        let known: Vec<(String, i32)> = positions.keys().cloned().collect();
        let watermarks = self.ask(move |client| {
            let cluster = client.cluster()?;
            let there = cluster.topics()?;
            let mut found = BTreeMap::new();
            for topic in topics {
                for partition in there.get(&topic).map(|topic| topic.partitions.clone()).unwrap_or_default() {
                    found.insert((topic.clone(), partition), Some(cluster.watermarks(&topic, partition)?));
                }
            }
            for gone in known {
                found.entry(gone).or_insert(None);
            }
            Ok(found)
        });
        let row = |((topic, partition), watermarks): ((String, i32), Option<Watermarks>)| {
            let key = (topic, partition);
            let position = positions.get(&key).copied();
            let beside = beside.and_then(|other| other.committed.get(&key).copied());
            PositionRow { topic: key.0, partition, position, watermarks, beside }
        };
        Ok(watermarks.await?.into_iter().map(row).collect())
    }

    /// Let a partition stand elsewhere, because somebody says so.
    pub async fn set(&self, topic: &str, partition: i32, target: Target, by: &str) -> Result<Moved, OperateError> {
        let asked = topic.to_owned();
        let (offset, ids) = self
            .ask(move |client| {
                // First the id: should the topic be made anew meanwhile, the position belongs to the one that is gone.
                let ids = client.cluster()?.topic_ids(&BTreeSet::from([asked.clone()]))?;
                Ok((resolve(&client, &asked, partition, target)?, ids))
            })
            .await?;
        self.move_all(vec![(topic.to_owned(), partition, offset)], &ids, by).await?.pop().ok_or(OperateError::CutOff)
    }

    /// Go on where another group is, for all topics that are read.
    pub async fn set_from_group(&self, group: &str, by: &str) -> Result<Vec<Moved>, OperateError> {
        let topics = self.topics().await?;
        if topics.is_empty() {
            return Err(OperateError::NotFound(
                "it is not known yet which topics are read; name them in kafka.topics, or start belfry once".into(),
            ));
        }
        let (asked, of_group) = (topics.clone(), group.to_owned());
        let committed = self.ask(move |client| {
            let ids = client.cluster()?.topic_ids(&asked)?;
            let partitions = partitions_of(&client, asked)?;
            Ok((client.cluster_as_group(&of_group)?.committed(&partitions)?, ids))
        });
        let (committed, ids) = committed.await?;
        if committed.is_empty() {
            let topics = topics.into_iter().collect::<Vec<_>>().join(", ");
            return Err(OperateError::NotFound(format!("the group {group} has committed nothing for {topics}")));
        }
        self.move_all(committed, &ids, by).await
    }

    /// The positions belong to the topics with these ids from now on.
    async fn move_all(
        &self,
        targets: Vec<(String, i32, i64)>,
        ids: &BTreeMap<String, TopicId>,
        by: &str,
    ) -> Result<Vec<Moved>, OperateError> {
        let mut moved = Vec::with_capacity(targets.len());
        for (topic, partition, is) in targets {
            let key = SourcePartition { group: self.group.clone(), topic: topic.clone(), partition };
            let position = SourcePosition { partition: key, next: is, topic_id: ids.get(&topic).cloned() };
            let was = self.store.set_source_position(&position, by, now_ms()).await?;
            moved.push(Moved { topic, partition, was, is });
        }
        self.tell_replicas().await?;
        Ok(moved)
    }

    /// Their next commit would tell them; where there is nothing to commit, the heartbeat does.
    async fn tell_replicas(&self) -> Result<(), StoreError> {
        let (row, nobody) = (source_row(&self.group), Uuid::new_v4());
        self.store.register_sink(&row, 0).await?;
        for _ in 0..20 {
            if let Some(lease) = self.store.acquire_lease(&row, nobody).await? {
                return self.store.release_lease(&row, lease.epoch).await;
            }
            // Somebody else sets positions at this moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn positions(&self) -> Result<BTreeMap<(String, i32), i64>, StoreError> {
        let read = self.store.source_positions(&self.group, None).await?;
        Ok(read.into_iter().map(|read| ((read.partition.topic, read.partition.partition), read.next)).collect())
    }

    /// The topics that are configured, or that the releases in the store want.
    async fn topics(&self) -> Result<BTreeSet<String>, StoreError> {
        if let SourceTopics::These(topics) = &self.topics {
            return Ok(topics.iter().cloned().collect());
        }
        let mut wanted = BTreeSet::new();
        for rollout in self.store.rollouts().await?.into_iter().filter(|rollout| !rollout.retired) {
            let release = self.store.release(rollout.release_id).await?;
            let description =
                release.and_then(|release| serde_json::from_str::<Description>(&release.description).ok());
            let subscriptions = description.into_iter().flat_map(|description| description.subscriptions);
            wanted.extend(subscriptions.map(|subscription| subscription.event_type));
        }
        Ok(wanted)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Client) -> Result<T, OperateError> + Send + 'static,
    ) -> Result<T, OperateError> {
        let client = self.client.clone();
        let asking = move || {
            question(client.clone()).map_err(|error| match error {
                OperateError::Kafka(error) => client.refusal().map_or(error.into(), OperateError::Refused),
                error => error,
            })
        };
        tokio::task::spawn_blocking(asking).await.map_err(|_| OperateError::CutOff)?
    }
}

fn partitions_of(client: &Client, topics: BTreeSet<String>) -> Result<Vec<(String, i32)>, OperateError> {
    let there = client.cluster()?.topics()?;
    let mut partitions = Vec::new();
    for topic in topics {
        let found = there.get(&topic).map(|topic| topic.partitions.clone()).unwrap_or_default();
        partitions.extend(found.into_iter().map(|partition| (topic.clone(), partition)));
    }
    Ok(partitions)
}

fn resolve(client: &Client, topic: &str, partition: i32, target: Target) -> Result<i64, OperateError> {
    let cluster = client.cluster()?;
    let there = cluster.topics()?;
    let Some(found) = there.get(topic) else {
        return Err(OperateError::NotFound(format!("there is no topic {topic}; see `belfry topics check`")));
    };
    if !found.partitions.contains(&partition) {
        let count = found.partitions.len();
        return Err(OperateError::NotFound(format!("topic {topic} has {count} partitions, from 0; not {partition}")));
    }
    let offset = match target {
        Target::Start(at) => {
            return Ok(cluster.starts(topic, &[partition], at)?.first().map_or(0, |(_, start)| *start));
        }
        Target::Offset(offset) => offset,
    };
    let watermarks = cluster.watermarks(topic, partition)?;
    if !(watermarks.low..=watermarks.high).contains(&offset) {
        return Err(OperateError::OutOfRange { topic: topic.to_owned(), partition, offset, watermarks });
    }
    Ok(offset)
}
