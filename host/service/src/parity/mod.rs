//! Compares the notifications in the log with those that another notifier has published to a topic.
//!
//! The other notifier assigns its own ids and names no source event. But the correlation id passes unchanged from the
//! event into both notifications, so two notifications match if correlation id, recipient and type are the same. They are
//! equal if everything else is too, except for ids, times and the envelope. Only hashes are kept, so neither content nor
//! recipients can be printed.

mod content;
mod side;
mod verdict;

use std::time::Duration;

use belfry_store::{Store, StoreError, now_ms};
use rdkafka::error::KafkaError;

pub use verdict::{Comparison, Difference, DifferenceKind, InLog, OnTopic};

use crate::config::Config;
use crate::kafka::{Client, KafkaConfigError, ScanError};
use content::Names;

/// Limit on the notifications of each side, so that they fit into memory.
const MAX_COMPARED: usize = 2_000_000;

/// The scope of a comparison.
#[derive(Clone, Debug)]
pub struct CompareSettings {
    /// The topic to which the other notifier publishes; by default `notification.topic`, as for Belfry.
    pub topic: Option<String>,
    /// The beginning, in milliseconds since 1970; by default, `grace` after the first notification in the log.
    pub from_ms: Option<i64>,
    /// The end, in milliseconds since 1970; by default, `grace` before now.
    pub to_ms: Option<i64>,
    /// How much earlier or later the other notifier may publish the same notification.
    pub grace: Duration,
}

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka's clients cannot be created.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// The topic cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// There is no such topic.
    #[error("there is no topic {0}; pass the topic of the other notifier with --topic")]
    NoTopic(String),
    /// The notifications do not fit into memory.
    #[error("more than {MAX_COMPARED} notifications at once; narrow the range with --from and --to")]
    TooMany,
}

impl From<KafkaError> for CompareError {
    fn from(error: KafkaError) -> Self {
        Self::Scan(error.into())
    }
}

/// Compares the notifications of both sides.
pub async fn compare(config: &Config, store: &Store, settings: &CompareSettings) -> Result<Comparison, CompareError> {
    let client = Client::new(&config.kafka, None)?;
    let grace_ms = settings.grace.as_millis() as i64;
    // The other side may still publish newer notifications.
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
    // Records that the topic has deleted cannot be compared.
    let from_ms = others.complete_since_ms.map_or(from_ms, |since_ms| from_ms.max(since_ms + grace_ms));
    Ok(verdict::judge(log, others, from_ms, to_ms, &names))
}
