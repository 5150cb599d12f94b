//! Does Belfry tell what another notifier tells? Compares the notifications in the log with those that the other one has
//! published to a topic.
//!
//! The other's ids are its own, and it names no source event. But the correlation id goes unchanged from the event into
//! both, so two notifications belong together if they have the same one, tell the same recipient, and are of the same
//! type; and they are the same if everything else is too, but for ids, times and the envelope. Of all that only hashes
//! are kept: nothing of what is told to whom can be printed.

mod content;
mod side;
mod verdict;

use std::time::Duration;

use belfry_store::{Store, StoreError};
use rdkafka::error::KafkaError;

pub use verdict::{Comparison, Difference, DifferenceKind, InLog, OnTopic};

use crate::clock::now_ms;
use crate::config::Config;
use crate::kafka::{Client, KafkaConfigError};
use content::Names;

/// Notifications of each side that fit into memory.
const MAX_NOTIFICATIONS: usize = 2_000_000;

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareSettings {
    /// Where the other notifier publishes; otherwise to `notification.topic`, too.
    pub topic: Option<String>,
    /// From this time on, in milliseconds since 1970; otherwise from soon after the log begins.
    pub from_ms: Option<i64>,
    /// Up to this time; otherwise up to a moment ago.
    pub to_ms: Option<i64>,
    /// How much earlier or later the other one may tell the same.
    pub grace: Duration,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka's clients cannot be made.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// Kafka cannot be read.
    #[error("Kafka: {0}; check kafka.brokers with `belfry doctor`")]
    Kafka(#[from] KafkaError),
    /// It stopped answering.
    #[error("Kafka: nothing was read for {0} seconds; try again, or look with `belfry doctor`")]
    Stalled(u64),
    /// There is no such topic.
    #[error("there is no topic {0}; say with --topic where the other notifier publishes")]
    NoTopic(String),
    /// More than fits into memory.
    #[error("more than {MAX_NOTIFICATIONS} notifications at once; narrow the range with --from and --to")]
    TooMany,
}

/// Compare them.
pub async fn compare(config: &Config, store: &Store, settings: &CompareSettings) -> Result<Comparison, CompareError> {
    let client = Client::new(&config.kafka, None)?;
    let grace_ms = settings.grace.as_millis() as i64;
    // What is newer may still be told by the other side.
    let to_ms = settings.to_ms.unwrap_or_else(|| now_ms() - grace_ms);
    let mut names = Names::default();
    let widest = side::Range { from_ms: settings.from_ms.map(|from_ms| from_ms - grace_ms), to_ms: to_ms + grace_ms };
    let log = side::read_log(store, &config.notification.topic, widest, &mut names).await?;
    let begun_ms = log.first().map(|notice| notice.at_ms + grace_ms);
    let from_ms = settings.from_ms.or(begun_ms).unwrap_or(to_ms);
    let topic = settings.topic.clone().unwrap_or_else(|| config.notification.topic.clone());
    let widest = side::Range { from_ms: Some(from_ms - grace_ms), ..widest };
    let read = tokio::task::spawn_blocking(move || side::read_topic(&client, topic, widest, names));
    let (others, names) = read.await.map_err(|_| KafkaError::Canceled)??;
    // What the topic has deleted cannot be compared.
    let from_ms = others.complete_since_ms.map_or(from_ms, |since_ms| from_ms.max(since_ms + grace_ms));
    Ok(verdict::judge(log, others, from_ms, to_ms, &names))
}
