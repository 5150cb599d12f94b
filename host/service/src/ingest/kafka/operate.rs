//! Shows and sets positions for operators, whether or not a replica is reading at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use belfry_sandbox::Description;
use belfry_store::{OpenError, SourcePartition, SourcePosition, Store, StoreError, StoreSettings, now_ms};
use rdkafka::error::KafkaError;
use uuid::Uuid;

use crate::config::StartAt;
use crate::config::{Config, SecretError, SourceTopics};
use crate::kafka::{Client, KafkaConfigError, Refusal, TopicId, Watermarks};

/// Returns the name of the row whose epoch signals to replicas that positions of the group were set.
pub(super) fn source_row(group: &str) -> String {
    format!("source:{group}")
}

/// The position of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to be read. `None` if the partition was never read.
    pub position: Option<i64>,
    /// The watermarks of the partition. `None` if the partition does not exist.
    pub watermarks: Option<Watermarks>,
    /// The committed offset of the group that is shown for comparison. `None` if it has committed nothing.
    pub beside: Option<i64>,
}

/// The members and the committed offsets of another group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherGroup {
    /// The number of members that it has now.
    pub members: usize,
    /// Its committed offsets.
    committed: BTreeMap<(String, i32), i64>,
}

/// A position that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionChange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The previous position.
    pub was: Option<i64>,
    /// The new position.
    pub is: i64,
}

/// The value to which a position is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This offset.
    Offset(i64),
    /// A start that the cluster resolves to an offset.
    Start(StartAt),
}

/// Why positions cannot be shown or set.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// No cluster is configured.
    #[error("kafka.brokers: not set; set it, for example to kafka-1:9092")]
    NoBrokers,
    /// A Kafka client cannot be created.
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
    #[error("kafka: {0}; check kafka.brokers, and that the broker is running")]
    Kafka(#[from] KafkaError),
    /// The cluster denies access.
    #[error("kafka: {0}")]
    Refused(Refusal),
    /// A topic, a partition or the offsets of a group do not exist.
    #[error("{0}")]
    NotFound(String),
    /// The partition does not have the offset.
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
        /// The requested offset.
        offset: i64,
        /// The watermarks of the partition.
        watermarks: Watermarks,
    },
    /// The call was aborted.
    #[error("the call was aborted")]
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
    /// Opens the configured store without migrating it.
    pub async fn open(config: &Config) -> Result<Self, OperateError> {
        if config.kafka.brokers.is_empty() {
            return Err(OperateError::NoBrokers);
        }
        let client = Client::new(&config.kafka, None)?;
        let store = Store::open(&StoreSettings { migrate: false, ..config.store.settings()? }).await?;
        Ok(Self { store, client, group: config.kafka.group.clone(), topics: config.kafka.topics.clone() })
    }

    /// Returns the consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the state of another group in the topics that are read here.
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

    /// Returns every partition that is or was read, with the offsets of another group for comparison.
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

    /// Sets the position of a partition. `by` names the operator.
    pub async fn set(
        &self,
        topic: &str,
        partition: i32,
        target: Target,
        by: &str,
    ) -> Result<PositionChange, OperateError> {
        let asked = topic.to_owned();
        let (offset, ids) = self
            .ask(move |client| {
                // The id is read first: if the topic is recreated in the meantime, the position belongs to the deleted one.
                let ids = client.cluster()?.topic_ids(&BTreeSet::from([asked.clone()]))?;
                Ok((resolve(&client, &asked, partition, target)?, ids))
            })
            .await?;
        self.move_all(vec![(topic.to_owned(), partition, offset)], &ids, by).await?.pop().ok_or(OperateError::CutOff)
    }

    /// Sets the positions of all topics that are read to the committed offsets of another group. `by` names the operator.
    pub async fn set_from_group(&self, group: &str, by: &str) -> Result<Vec<PositionChange>, OperateError> {
        let topics = self.topics().await?;
        if topics.is_empty() {
            return Err(OperateError::NotFound(
                "the topics that are read are not known yet; list them in kafka.topics, or start belfry once".into(),
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

    /// Sets positions, which belong to the topics with these ids.
    async fn move_all(
        &self,
        targets: Vec<(String, i32, i64)>,
        ids: &BTreeMap<String, TopicId>,
        by: &str,
    ) -> Result<Vec<PositionChange>, OperateError> {
        let mut moved = Vec::with_capacity(targets.len());
        for (topic, partition, is) in targets {
            let key = SourcePartition { group: self.group.clone(), topic: topic.clone(), partition };
            let position = SourcePosition { partition: key, next: is, topic_id: ids.get(&topic).cloned() };
            let was = self.store.set_source_position(&position, by, now_ms()).await?;
            moved.push(PositionChange { topic, partition, was, is });
        }
        self.tell_replicas().await?;
        Ok(moved)
    }

    /// Signals the change to replicas through the heartbeat. Their next commit is fenced anyway, but a replica may have
    /// nothing to commit.
    async fn tell_replicas(&self) -> Result<(), StoreError> {
        let (row, no_one) = (source_row(&self.group), Uuid::new_v4());
        self.store.register_sink(&row, 0).await?;
        for _ in 0..20 {
            if let Some(lease) = self.store.acquire_lease(&row, no_one).await? {
                return self.store.release_lease(&row, lease.epoch).await;
            }
            // Another operator is setting positions at the same time.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn positions(&self) -> Result<BTreeMap<(String, i32), i64>, StoreError> {
        let read = self.store.source_positions(&self.group, None).await?;
        Ok(read.into_iter().map(|read| ((read.partition.topic, read.partition.partition), read.next)).collect())
    }

    /// Returns the configured topics, or those to which the releases in the store subscribe.
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
        return Err(OperateError::NotFound(format!("topic {topic} does not exist; see `belfry topics check`")));
    };
    if !found.partitions.contains(&partition) {
        let count = found.partitions.len();
        return Err(OperateError::NotFound(format!(
            "topic {topic} has {count} partitions, numbered from 0; not {partition}"
        )));
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
