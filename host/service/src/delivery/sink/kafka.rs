//! The producer: idempotent, acknowledged by all in-sync replicas, in order, partitioned by murmur2 like every other client
//! of the platform.
//!
//! Its message timeout is disabled: a message that timed out would be overtaken by later ones. Instead, the relay watches
//! for a stall, and then starts again from its position with a new producer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use belfry_store::{RelayEntry, crash_point};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::{Ack, Refused, SinkError};
use crate::kafka::{Client, TopicLimits, Unsendable, log, record_bytes};

/// Time limit for the broker to list its topics.
const METADATA: Duration = Duration::from_secs(5);
/// How long to wait when the producer's queue is full; the relay's window is smaller, so this is rare.
const QUEUE_FULL: Duration = Duration::from_millis(2);

pub(crate) struct KafkaSink {
    producer: ThreadedProducer<Callbacks>,
    topics: TopicLimits,
    /// Topics whose limits the producer's batches are known to respect.
    met: HashSet<String>,
    batch_bytes: usize,
    pub(super) acks: mpsc::UnboundedSender<Ack>,
}

impl KafkaSink {
    pub(super) async fn open(
        client: &Client,
        topics: &TopicLimits,
        acks: mpsc::UnboundedSender<Ack>,
    ) -> Result<Self, SinkError> {
        if let Err(error) = topics.renew(Instant::now()).await {
            return Err(match client.why_refused().await {
                Some(refusal) => SinkError::Misconfigured(refusal.to_string()),
                None => SinkError::Unavailable(error.to_string()),
            });
        }
        let mut config = client.producer();
        // A batch that is larger than a topic's limit would be rejected as a whole.
        let chosen = config.get("batch.size").and_then(|chosen| chosen.parse().ok());
        let batch_bytes = chosen.unwrap_or(usize::MAX).min(topics.batch_bytes());
        config.set("batch.size", batch_bytes.to_string());
        let callbacks = Callbacks { acks: acks.clone() };
        let opened = tokio::task::spawn_blocking(move || {
            let producer: ThreadedProducer<Callbacks> = config.create_with_context(callbacks)?;
            // Half-open: if the broker does not answer now, entries would only fill the queue.
            producer.client().fetch_metadata(None, METADATA)?;
            Ok(producer)
        });
        let producer = opened
            .await
            .map_err(|error| SinkError::Unavailable(error.to_string()))?
            .map_err(|error: KafkaError| SinkError::Unavailable(error.to_string()))?;
        Ok(Self { producer, topics: topics.clone(), met: HashSet::new(), batch_bytes, acks })
    }

    pub(super) async fn refuses(&self, entry: &RelayEntry) -> Option<Refused> {
        let bytes = record_bytes(entry.payload.len(), entry.headers.len(), entry.event_key.len());
        match self.topics.refuse(&entry.topic, bytes).await? {
            Unsendable::TooLarge { limit, .. } => {
                Some(Refused::Entry(format!("{bytes} bytes, the topic accepts {limit} (max.message.bytes)")))
            }
            // The client would wait for the topic, and so would all entries behind this one.
            Unsendable::UnknownTopic { topic } => {
                let reason = missing(&topic);
                Some(Refused::Topic { topic, reason })
            }
            Unsendable::NotATopic | Unsendable::Notifications { .. } => None,
        }
    }

    pub(super) async fn lacks(&self, topic: &str) -> Option<String> {
        match self.topics.refuse(topic, 0).await? {
            Unsendable::UnknownTopic { topic } => Some(missing(&topic)),
            _ => None,
        }
    }

    /// Checks the limit of a topic once. If the topic accepts only smaller batches than the producer's, fails, so that a
    /// new producer with smaller batches is opened.
    fn meet(&mut self, topic: &str) -> Result<(), SinkError> {
        if self.met.contains(topic) {
            return Ok(());
        }
        if self.topics.batch_bytes_with(topic) < self.batch_bytes {
            return Err(SinkError::Unavailable(format!(
                "topic {topic} accepts only smaller batches; restarting the producer"
            )));
        }
        self.met.insert(topic.to_owned());
        Ok(())
    }

    pub(super) async fn send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), SinkError> {
        self.meet(&entry.topic)?;
        let headers = headers(&entry.headers);
        let mut record = BaseRecord::with_opaque_to(&entry.topic, number).payload(&entry.payload).headers(headers);
        if !entry.event_key.is_empty() {
            record = record.key(&entry.event_key);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    crash_point!("relay.after-produce");
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                Err((error, _)) => {
                    let _ = self.acks.send(Ack { number, result: Err(refused(&error, &entry.topic)) });
                    return Ok(());
                }
            }
        }
    }

    pub(super) async fn look_again(&self) -> Result<(), SinkError> {
        self.topics.renew(Instant::now()).await.map_err(|error| SinkError::Unavailable(error.to_string()))
    }

    /// Drops the producer on a blocking thread, because that waits for the producer's threads.
    pub(super) async fn close(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self.producer)).await;
    }
}

/// Receives delivery reports, on the producer's own thread.
struct Callbacks {
    acks: mpsc::UnboundedSender<Ack>,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(sink = "kafka", %error, reason, "the producer reports an error");
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        use rdkafka::Message;
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => Err(refused(error, message.topic())),
        };
        crash_point!("relay.after-acknowledgement");
        // If the session is gone, the next one starts from the stored position.
        let _ = self.acks.send(Ack { number, result });
    }
}

fn missing(topic: &str) -> String {
    format!(
        "topic {topic}: it does not exist, or belfry may not see it; create it, for example with \
         `belfry topics apply`, or allow DESCRIBE and WRITE on it"
    )
}

/// Classifies an error by its cause: an entry at fault is parked, a topic at fault is held back, everything else is waited
/// out.
fn refused(error: &KafkaError, topic: &str) -> Refused {
    let KafkaError::MessageProduction(code) = error else {
        return Refused::Sink(SinkError::Unavailable(error.to_string()));
    };
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidMessageSize
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidTimestamp
        | RDKafkaErrorCode::PolicyViolation => Refused::Entry(code.to_string()),
        // Another entry was refused, and the producer has stopped before this one could overtake it.
        RDKafkaErrorCode::GaplessGuarantee => Refused::Behind(code.to_string()),
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => of_topic(topic, code, "create it, see `belfry topics apply`"),
        RDKafkaErrorCode::TopicAuthorizationFailed => of_topic(topic, code, "allow WRITE and DESCRIBE on it"),
        RDKafkaErrorCode::InvalidTopic => {
            of_topic(topic, code, "no topic can have this name; discard its entries with `belfry parked discard`")
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            Refused::Sink(SinkError::Misconfigured(format!("{code}; allow IDEMPOTENT_WRITE on the cluster")))
        }
        _ => Refused::Sink(SinkError::Unavailable(format!("topic {topic}: {code}"))),
    }
}

fn of_topic(topic: &str, code: &RDKafkaErrorCode, remedy: &str) -> Refused {
    Refused::Topic { topic: topic.to_owned(), reason: format!("topic {topic}: {code}; {remedy}") }
}

/// Parses headers as they are stored: a JSON object of strings.
fn headers(stored: &[u8]) -> OwnedHeaders {
    let stored: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(stored).unwrap_or_default();
    stored.iter().fold(OwnedHeaders::new_with_capacity(stored.len()), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_str() })
    })
}
