//! The limits of the cluster's topics, as far as they are known. An event that the broker would never accept is refused
//! before it is recorded, and its sender gets the reason. Otherwise it would be parked later, with the sender long gone.
//!
//! The view is renewed in the background, and also before it leads to a refusal: a topic that was just created, or whose
//! limit was just raised, need not wait. While nothing is known, nothing is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Client;

/// The interval at which the view is renewed in the background.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// The maximum age of a view that leads to a refusal. It bounds how often the cluster is queried.
const FRESH: Duration = Duration::from_secs(1);
/// How long a cluster that did not answer is left alone.
const AWAY: Duration = Duration::from_secs(5);
/// How long a refusal waits for a newer view, and the start for the first one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time limit for an administrative request.
const REQUEST: Duration = Duration::from_secs(5);
/// Maximum framing of a record in bytes, in addition to value, key and headers: RecordBatch header and varints.
pub(crate) const FRAMING_BYTES: usize = 512;
/// The bounds of a producer's batch size, in bytes.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 1024..=1_000_000;

/// Why the broker would never accept a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The topic does not exist, or Belfry may not see it.
    #[error(
        "topic {topic}: it does not exist, or belfry may not see it; create it, for example with \
         `belfry topics apply`, or allow DESCRIBE and WRITE on it, and send the event again"
    )]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic accepts only smaller records.
    #[error(
        "{bytes} bytes as a record, topic {topic} accepts {limit} (max.message.bytes); put large data into storage and \
         send a reference, or raise the topic's limit"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// No topic can have the event's type as its name.
    #[error(
        "no topic can have this name; use 1 to 249 of the characters a to z, A to Z, 0 to 9, `.`, `_` and \
         `-`, and not `.` or `..` alone"
    )]
    NotATopic,
    /// The event's type is that of notifications, which rules make.
    #[error("{topic} is the topic of notifications, which only rules make (notification.topic); use another type")]
    Notifications {
        /// The topic.
        topic: String,
    },
}

impl Unsendable {
    /// Returns its name in responses and metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::UnknownTopic { .. } => "unknown-topic",
            Self::TooLarge { .. } => "too-large",
            Self::NotATopic | Self::Notifications { .. } => "malformed",
        }
    }
}

/// Returns the size of a record in bytes as the topic's limit counts it, without compression.
pub(crate) fn record_bytes(payload: usize, headers: usize, key: usize) -> usize {
    payload + headers + key + FRAMING_BYTES
}

/// A view of the cluster's topics. Cheap to clone; all clones share the view.
#[derive(Clone)]
pub(crate) struct TopicLimits {
    client: Client,
    admin: Arc<AdminClient<DefaultClientContext>>,
    view: Arc<ArcSwapOption<View>>,
    /// The topics to which entries are published.
    ours: Arc<std::sync::Mutex<BTreeSet<String>>>,
    /// Locked while a task queries the cluster. Holds the time and the error of the last query if it failed.
    asking: Arc<Mutex<Option<(Instant, KafkaError)>>>,
}

struct View {
    asked_at: Instant,
    /// The largest record of each topic, in bytes. `None` if Belfry may not read the topic's settings.
    largest: HashMap<String, Option<usize>>,
}

impl View {
    /// Returns the largest batch that all of these topics accept, without framing: the broker rejects a larger one as a
    /// whole.
    fn batch_bytes(&self, topics: &BTreeSet<String>) -> usize {
        let limits = topics.iter().filter_map(|topic| *self.largest.get(topic)?);
        let smallest = limits.min().map_or(usize::MAX, |limit| limit.saturating_sub(FRAMING_BYTES));
        smallest.clamp(*BATCH_BYTES.start(), *BATCH_BYTES.end())
    }

    fn refuses(&self, topic: &str, bytes: usize) -> Option<Unsendable> {
        match self.largest.get(topic) {
            None => Some(Unsendable::UnknownTopic { topic: topic.to_owned() }),
            Some(Some(limit)) if bytes > *limit => {
                Some(Unsendable::TooLarge { topic: topic.to_owned(), bytes, limit: *limit })
            }
            Some(_) => None,
        }
    }
}

impl TopicLimits {
    /// Creates an empty view. All notifications are published to one topic, events to those of their types.
    pub(crate) fn new(client: &Client, notifications: &str) -> Result<Self, KafkaError> {
        let admin = Arc::new(client.base().create()?);
        let ours = Arc::new(std::sync::Mutex::new(BTreeSet::from([notifications.to_owned()])));
        Ok(Self { client: client.clone(), admin, view: Arc::default(), ours, asking: Arc::default() })
    }

    /// Renews the view until the service stops.
    pub(crate) async fn keep_up(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(RENEW_EVERY) => {}
                () = stopping.cancelled() => return,
            }
            // Kafka's availability is checked by the sinks and sources.
            let _ = self.renew(Instant::now()).await;
        }
    }

    /// Returns why a record would never be accepted. Queries the cluster again before the refusal.
    pub(crate) async fn refuse(&self, topic: &str, bytes: usize) -> Option<Unsendable> {
        let refused = self.refused(topic, bytes)?;
        match timeout(PATIENCE, self.renew(fresh_enough())).await {
            Ok(Ok(())) => self.refused(topic, bytes),
            Ok(Err(_)) | Err(_) => Some(refused),
        }
    }

    /// Returns whether the cluster lists any topic at all. A cluster that has just started, or that hides everything from
    /// Belfry, may list none. That a topic is missing is not trusted then.
    pub(crate) fn names_any(&self) -> bool {
        self.view.load().as_ref().is_some_and(|view| !view.largest.is_empty())
    }

    fn refused(&self, topic: &str, bytes: usize) -> Option<Unsendable> {
        self.view.load().as_ref()?.refuses(topic, bytes)
    }

    /// Returns the largest record of one topic in bytes, if it is known.
    pub(crate) fn largest(&self, topic: &str) -> Option<usize> {
        *self.view.load().as_ref()?.largest.get(topic)?
    }

    /// Returns the largest batch of a producer that also publishes to this topic from now on. Only topics to which Belfry
    /// publishes count.
    pub(crate) fn batch_bytes_with(&self, topic: &str) -> usize {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if !ours.contains(topic) {
            ours.insert(topic.to_owned());
        }
        self.view.load().as_ref().map_or(*BATCH_BYTES.end(), |view| view.batch_bytes(&ours))
    }

    /// Returns the largest batch for all topics so far.
    pub(crate) fn batch_bytes(&self) -> usize {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        self.view.load().as_ref().map_or(*BATCH_BYTES.end(), |view| view.batch_bytes(&ours))
    }

    /// Queries the cluster for the first time, within a time limit: a service also starts without Kafka.
    pub(crate) async fn learn(&self) {
        if matches!(timeout(PATIENCE, self.renew(Instant::now())).await, Ok(Ok(()))) {
            return;
        }
        match self.client.why_refused().await {
            Some(refusal) => tracing::error!(%refusal, "nothing is sent to Kafka until this is corrected"),
            None => tracing::warn!("Kafka does not answer; until it does, events of any topic are accepted"),
        }
    }

    /// Ensures that there is a view that was requested at `since` or later.
    pub(crate) async fn renew(&self, since: Instant) -> Result<(), KafkaError> {
        let mut away = self.asking.lock().await;
        if self.view.load().as_ref().is_some_and(|view| view.asked_at >= since) {
            return Ok(());
        }
        if let Some((at, error)) = &*away {
            // Another task queried the cluster while this one waited.
            let is_answered = *at >= since;
            // A caller that requires a current view insists. Others leave an unavailable cluster alone.
            if is_answered || (at.elapsed() < AWAY && since + FRESH <= Instant::now()) {
                return Err(error.clone());
            }
        }
        let asked_at = Instant::now();
        match largest_records(self.admin.clone()).await {
            Ok(largest) => {
                *away = None;
                self.view.store(Some(Arc::new(View { asked_at, largest })));
                Ok(())
            }
            Err(error) => {
                *away = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

fn fresh_enough() -> Instant {
    Instant::now().checked_sub(FRESH).unwrap_or_else(Instant::now)
}

/// Returns the largest record that each visible topic accepts, in bytes.
async fn largest_records(
    admin: Arc<AdminClient<DefaultClientContext>>,
) -> Result<HashMap<String, Option<usize>>, KafkaError> {
    let asked = admin.clone();
    let names = tokio::task::spawn_blocking(move || {
        let metadata = asked.inner().fetch_metadata(None, REQUEST)?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok::<Vec<String>, KafkaError>(names.filter(|name| !name.starts_with("__")).collect())
    })
    .await
    .map_err(|_| KafkaError::Canceled)??;
    let mut largest: HashMap<String, Option<usize>> = names.iter().map(|name| (name.clone(), None)).collect();
    if names.is_empty() {
        return Ok(largest);
    }
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    for described in admin.describe_configs(&resources, &options).await? {
        // If Belfry may not read a topic's settings, the broker reports entries that are too large.
        let Ok(described) = described else { continue };
        let limit = described.get("max.message.bytes").and_then(|entry| entry.value.as_ref()?.parse().ok());
        if let OwnedResourceSpecifier::Topic(name) = described.specifier {
            largest.insert(name, limit);
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_topics_size_the_batches() {
        let limits = [("ours", Some(50_000)), ("small", Some(1_500)), ("hidden", None), ("large", Some(16 << 20))];
        let largest = limits.map(|(topic, limit)| (topic.to_owned(), limit)).into();
        let view = View { asked_at: Instant::now(), largest };
        let batch = |topics: &[&str]| view.batch_bytes(&topics.iter().map(|topic| (*topic).to_owned()).collect());
        assert_eq!(batch(&["ours", "hidden", "missing"]), 50_000 - FRAMING_BYTES);
        assert_eq!(batch(&["ours", "small"]), 1024, "a batch holds more than one record");
        assert_eq!(batch(&["large"]), 1_000_000);
        assert_eq!(batch(&[]), 1_000_000);
    }
}
