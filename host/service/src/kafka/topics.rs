//! Compares the declared topics with those of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Client, KafkaConfigError, Logged, Refusal};
use crate::config::{DeclaredTopic, Kafka};

/// Time limit for the cluster to carry out a request.
const REQUEST: Duration = Duration::from_secs(30);

/// A difference in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDifference {
    /// The topic.
    pub topic: String,
    /// How it differs.
    pub difference: Difference,
}

/// How a topic differs from its declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The topic does not exist.
    Missing,
    /// It has too few partitions.
    Partitions {
        /// The actual number.
        actual: usize,
        /// The declared number.
        declared: usize,
    },
    /// Its partitions have too few replicas. Belfry does not change that.
    Copies {
        /// The actual number.
        actual: i32,
        /// The declared number.
        declared: i32,
    },
    /// A setting has another value.
    Setting {
        /// The setting.
        name: String,
        /// Its actual value. `None` if the broker does not know the setting.
        actual: Option<String>,
        /// Its declared value.
        declared: String,
    },
}

impl Difference {
    /// Returns whether Belfry can remove the difference.
    pub fn can_be_applied(&self) -> bool {
        !matches!(self, Self::Copies { .. } | Self::Setting { actual: None, .. })
    }
}

/// Why topics cannot be compared or changed.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// No cluster is configured.
    #[error("kafka.brokers: not set; set it, for example to kafka-1:9092")]
    NoBrokers,
    /// A Kafka client cannot be created.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// The topic is not declared.
    #[error("topic {0} is not declared; add [kafka.declared.\"{0}\"] to the configuration")]
    NotDeclared(String),
    /// The cluster does not answer.
    #[error("kafka: {0}; check kafka.brokers, and that the broker is running")]
    Kafka(#[from] KafkaError),
    /// The cluster denies access.
    #[error("kafka: {0}")]
    Misconfigured(Refusal),
    /// The cluster rejects a request.
    #[error("topic {topic}: {what}: {code}; nothing more was changed, see `belfry topics check`")]
    Refused {
        /// The topic.
        topic: String,
        /// What failed.
        what: &'static str,
        /// The broker's error code.
        code: RDKafkaErrorCode,
    },
    /// A setting cannot be read, so it could not be written back.
    #[error("topic {topic}: the broker hides the value of {name}, so it would be lost; set the other settings by hand")]
    Hidden {
        /// The topic.
        topic: String,
        /// The setting.
        name: String,
    },
    /// The call was aborted.
    #[error("the query of the cluster was aborted")]
    CutOff,
}

/// The declared topics and the cluster.
pub struct Topics {
    client: Client,
    admin: AdminClient<Logged>,
    declared: BTreeMap<String, DeclaredTopic>,
}

impl Topics {
    /// Selects the declared topics, or only those in `named` if it is not empty.
    pub fn new(settings: &Kafka, named: &[String]) -> Result<Self, TopicsError> {
        if settings.brokers.is_empty() {
            return Err(TopicsError::NoBrokers);
        }
        if let Some(unknown) = named.iter().find(|name| !settings.declared.contains_key(*name)) {
            return Err(TopicsError::NotDeclared(unknown.clone()));
        }
        let client = Client::new(settings, None)?;
        let admin = client.base().create_with_context(Logged)?;
        let mut declared = settings.declared.clone();
        declared.retain(|name, _| named.is_empty() || named.contains(name));
        Ok(Self { client, admin, declared })
    }

    /// Returns the number of selected topics.
    pub fn count(&self) -> usize {
        self.declared.len()
    }

    /// Returns every difference, by topic.
    pub async fn compare(&self) -> Result<Vec<TopicDifference>, TopicsError> {
        let client = self.client.clone();
        let there = tokio::task::spawn_blocking(move || client.cluster()?.topics());
        let there = match there.await.map_err(|_| TopicsError::CutOff)? {
            Ok(there) => there,
            Err(error) => return Err(self.client.why_refused().await.map_or(error.into(), TopicsError::Misconfigured)),
        };
        let mut differences = Vec::new();
        for (topic, declared) in &self.declared {
            let mut found = Vec::new();
            match there.get(topic) {
                None => found.push(Difference::Missing),
                Some(actual) => {
                    let (partitions, wanted) = (actual.partitions.len(), count(declared.partitions));
                    if partitions < wanted {
                        found.push(Difference::Partitions { actual: partitions, declared: wanted });
                    }
                    let (copies, wanted) = (actual.replication_factor, declared.replication_factor);
                    if copies < wanted {
                        found.push(Difference::Copies { actual: copies, declared: wanted });
                    }
                    found.extend(different_settings(&self.describe(topic).await?, declared));
                }
            }
            differences
                .extend(found.into_iter().map(|difference| TopicDifference { topic: topic.clone(), difference }));
        }
        Ok(differences)
    }

    /// Removes the differences that Belfry can remove.
    pub async fn apply(&self, differences: &[TopicDifference]) -> Result<(), TopicsError> {
        let mut with_settings = BTreeSet::new();
        for TopicDifference { topic, difference } in differences {
            let Some(declared) = self.declared.get(topic) else { continue };
            match difference {
                Difference::Missing => self.create(topic, declared).await?,
                Difference::Partitions { declared, .. } => self.add_partitions(topic, *declared).await?,
                Difference::Setting { actual: Some(_), .. } => {
                    with_settings.insert(topic);
                }
                Difference::Setting { .. } | Difference::Copies { .. } => {}
            }
        }
        for topic in with_settings {
            self.change_settings(topic, &self.declared[topic]).await?;
        }
        Ok(())
    }

    async fn create(&self, topic: &str, declared: &DeclaredTopic) -> Result<(), TopicsError> {
        let copies = TopicReplication::Fixed(declared.replication_factor);
        let mut new = NewTopic::new(topic, declared.partitions, copies);
        for (name, value) in &declared.settings {
            new = new.set(name, value);
        }
        let answers = self.admin.create_topics([&new], &options()).await?;
        // Another process was faster: the next comparison checks the topic.
        let refused = answers.into_iter().filter_map(Result::err);
        let refused = refused.map(|(_, code)| code).find(|code| *code != RDKafkaErrorCode::TopicAlreadyExists);
        refuse(topic, "cannot create it", refused)
    }

    async fn add_partitions(&self, topic: &str, declared: usize) -> Result<(), TopicsError> {
        let answers = self.admin.create_partitions([&NewPartitions::new(topic, declared)], &options()).await?;
        let refused = answers.into_iter().find_map(Result::err).map(|(_, code)| code);
        refuse(topic, "cannot add partitions", refused)
    }

    /// Changes a topic's settings. The broker resets every setting that is not named, so all that were set are named again.
    async fn change_settings(&self, topic: &str, declared: &DeclaredTopic) -> Result<(), TopicsError> {
        let described = self.describe(topic).await?;
        let mut settings: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in described.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic) {
            let hidden = || TopicsError::Hidden { topic: topic.to_owned(), name: entry.name.clone() };
            settings.insert(&entry.name, entry.value.as_deref().ok_or_else(hidden)?);
        }
        settings.extend(declared.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let change = settings
            .iter()
            .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |change, (name, value)| change.set(name, value));
        let answers = self.admin.alter_configs([&change], &options()).await?;
        let refused = answers.into_iter().find_map(Result::err).map(|(_, code)| code);
        refuse(topic, "cannot change its settings", refused)
    }

    async fn describe(&self, topic: &str) -> Result<ConfigResource, TopicsError> {
        let described = self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await?;
        let described = described.into_iter().next().ok_or(KafkaError::Canceled)?;
        described.map_err(|code| TopicsError::Refused {
            topic: topic.to_owned(),
            what: "cannot read its settings",
            code,
        })
    }
}

fn different_settings(described: &ConfigResource, declared: &DeclaredTopic) -> Vec<Difference> {
    let mut different = Vec::new();
    for (name, wanted) in &declared.settings {
        let entry = described.get(name);
        let actual = entry.map(|entry| entry.value.clone().unwrap_or_default());
        if actual.as_deref().is_none_or(|actual| !same(actual, wanted)) {
            different.push(Difference::Setting { name: name.clone(), actual, declared: wanted.clone() });
        }
    }
    different
}

/// Returns whether two values are equal. The order of a list such as `compact,delete` has no meaning.
fn same(actual: &str, declared: &str) -> bool {
    let parts = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<BTreeSet<_>>();
    parts(actual) == parts(declared)
}

fn refuse(topic: &str, what: &'static str, code: Option<RDKafkaErrorCode>) -> Result<(), TopicsError> {
    match code {
        None => Ok(()),
        Some(code) => Err(TopicsError::Refused { topic: topic.to_owned(), what, code }),
    }
}

fn count(declared: i32) -> usize {
    usize::try_from(declared).unwrap_or(0)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}
