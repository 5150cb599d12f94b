//! What the cluster's topics take, as far as it is known. What the broker would never take is then refused before it is
//! recorded, and the sender is told; otherwise it would be parked later, and the sender long gone.
//!
//! The view is renewed in the background, and at once when it speaks against something: a topic that was just made, or
//! whose limit was just raised, need not wait. While nothing is known, nothing is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use super::Client;

/// How often the view is renewed anyway.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// A view is believed for so long when it speaks against something; this bounds how often the cluster is asked.
const FRESH: Duration = Duration::from_secs(1);
/// After a cluster did not answer, it is left alone for so long.
const AWAY: Duration = Duration::from_secs(5);
/// How long something that the view speaks against waits for a newer one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an administrative request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// What a record's framing costs beside value, key and headers, at most; RecordBatch header and varints.
pub(crate) const FRAMING_BYTES: usize = 512;
/// The longest name of a topic.
const MAX_NAME_BYTES: usize = 249;
/// The bounds of a producer's batch.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 1024..=1_000_000;

/// Why the broker would never take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// There is no such topic, or it is not ours to see.
    #[error(
        "topic {topic}: the broker does not have it or does not let belfry see it; create it, such as with \
         `belfry topics apply`, or allow DESCRIBE and WRITE on it, and send the event again"
    )]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic takes smaller records only.
    #[error(
        "{bytes} bytes as a record, topic {topic} takes {limit} (max.message.bytes); put large data into storage and \
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
    /// The word for it in answers and metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::UnknownTopic { .. } => "unknown-topic",
            Self::TooLarge { .. } => "too-large",
            Self::NotATopic | Self::Notifications { .. } => "malformed",
        }
    }
}

/// Whether a topic can have this name.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_taken) && name != "." && name != ".."
}

/// The size of a record as the topic's limit counts it, compression left out.
pub(crate) fn record_bytes(payload: usize, headers: usize, key: usize) -> usize {
    payload + headers + key + FRAMING_BYTES
}

/// A view of the cluster's topics. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub(crate) struct TopicLimits {
    client: Client,
    admin: Arc<AdminClient<DefaultClientContext>>,
    view: Arc<ArcSwapOption<View>>,
    /// The topics that entries are published to.
    ours: Arc<std::sync::Mutex<BTreeSet<String>>>,
    /// Held by whoever asks the cluster; says when it last did not answer, and what was told of it.
    asking: Arc<Mutex<Option<(Instant, KafkaError)>>>,
}

struct View {
    asked_at: Instant,
    /// The largest record of each topic; none where its settings are not ours to see.
    largest: HashMap<String, Option<usize>>,
}

impl View {
    /// The largest batch that all of these topics take, framing left out: the broker refuses a larger one as a whole.
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
    /// A view of nothing yet. Notifications are published to one topic, events to those of their types.
    pub(crate) fn new(client: &Client, notifications: &str) -> Result<Self, KafkaError> {
        let admin = Arc::new(client.base().create()?);
        let ours = Arc::new(std::sync::Mutex::new(BTreeSet::from([notifications.to_owned()])));
        Ok(Self { client: client.clone(), admin, view: Arc::default(), ours, asking: Arc::default() })
    }

    /// Renew the view until the service stops.
    pub(crate) async fn keep_up(self, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = sleep(RENEW_EVERY) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            // Whether Kafka is there is the sinks' and sources' business.
            let _ = self.renew(Instant::now()).await;
        }
    }

    /// Why a record would never be taken; asks the cluster again before it is refused.
    pub(crate) async fn refuse(&self, topic: &str, bytes: usize) -> Option<Unsendable> {
        let refused = self.refused(topic, bytes)?;
        match timeout(PATIENCE, self.renew(fresh_enough())).await {
            Ok(Ok(())) => self.refused(topic, bytes),
            Ok(Err(_)) | Err(_) => Some(refused),
        }
    }

    /// Whether the cluster names any topic at all. One that has just come up, or lets us see nothing, may name none; what
    /// is said of a topic then is not believed.
    pub(crate) fn names_any(&self) -> bool {
        self.view.load().as_ref().is_some_and(|view| !view.largest.is_empty())
    }

    fn refused(&self, topic: &str, bytes: usize) -> Option<Unsendable> {
        self.view.load().as_ref()?.refuses(topic, bytes)
    }

    /// The largest record of one topic, if that is known.
    pub(crate) fn largest(&self, topic: &str) -> Option<usize> {
        *self.view.load().as_ref()?.largest.get(topic)?
    }

    /// The largest batch of a producer, now that it publishes to this topic as well. Topics of others do not matter.
    pub(crate) fn batch_bytes_with(&self, topic: &str) -> usize {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if !ours.contains(topic) {
            ours.insert(topic.to_owned());
        }
        self.view.load().as_ref().map_or(*BATCH_BYTES.end(), |view| view.batch_bytes(&ours))
    }

    /// The same for all topics so far.
    pub(crate) fn batch_bytes(&self) -> usize {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        self.view.load().as_ref().map_or(*BATCH_BYTES.end(), |view| view.batch_bytes(&ours))
    }

    /// Look at the cluster for the first time, for a while only: a service starts without Kafka as well.
    pub(crate) async fn learn(&self) {
        if matches!(timeout(PATIENCE, self.renew(Instant::now())).await, Ok(Ok(()))) {
            return;
        }
        match self.client.why_refused().await {
            Some(refusal) => tracing::error!(%refusal, "nothing is sent to Kafka until somebody mends this"),
            None => tracing::warn!("Kafka does not answer; until it does, events are taken whatever their topic"),
        }
    }

    /// Have a view that was asked for at this time or later.
    pub(crate) async fn renew(&self, since: Instant) -> Result<(), KafkaError> {
        let mut away = self.asking.lock().await;
        if self.view.load().as_ref().is_some_and(|view| view.asked_at >= since) {
            return Ok(());
        }
        if let Some((at, error)) = &*away {
            // Somebody asked while this one waited.
            let is_answered = *at >= since;
            // Whoever wants a view of right now insists; others leave a cluster alone that is away.
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

/// The largest record that each topic takes, in bytes, of all topics that may be seen.
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
        // Where we may not look at a topic's settings, the broker tells when an entry is too large.
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
        assert_eq!(batch(&["ours", "small"]), 1024, "a batch of one record is none");
        assert_eq!(batch(&["large"]), 1_000_000);
        assert_eq!(batch(&[]), 1_000_000);
    }
}
