use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::Logged;
use crate::config::{Kafka, SecretError, is_secret, secret};

/// Settings on which Belfry's guarantees depend, with the reason. Operators cannot set them.
const FIXED: [(&str, &str); 27] = [
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group"),
    ("group.instance.id", "it is replica.name"),
    ("enable.idempotence", "a retried batch must not be duplicated or overtaken"),
    ("acks", "an acknowledgement must mean that all in-sync replicas have the entry"),
    ("request.required.acks", "an acknowledgement must mean that all in-sync replicas have the entry"),
    ("max.in.flight", "more than five requests in flight may be reordered"),
    ("max.in.flight.requests.per.connection", "more than five requests in flight may be reordered"),
    ("retries", "an entry is never abandoned"),
    ("message.send.max.retries", "an entry is never abandoned"),
    ("message.timeout.ms", "an entry that timed out would be overtaken by later ones"),
    ("delivery.timeout.ms", "an entry that timed out would be overtaken by later ones"),
    ("partitioner", "all clients of the platform must put a key into the same partition"),
    ("enable.gapless.guarantee", "an entry must not overtake a refused one with the same key"),
    ("queuing.strategy", "entries must be sent in the order in which they were queued"),
    ("transactional.id", "no transactions are used"),
    ("delivery.report.only.error", "every entry's acknowledgement is needed"),
    ("enable.auto.commit", "the position in the database is authoritative"),
    ("auto.commit.enable", "the position in the database is authoritative"),
    ("enable.auto.offset.store", "the position in the database is authoritative"),
    ("enable.partition.eof", "the source does not use it"),
    ("auto.offset.reset", "a position that the broker does not have must not be replaced silently"),
    ("isolation.level", "events of aborted transactions must not be read"),
    ("partition.assignment.strategy", "replicas of one group must agree on it"),
    ("group.protocol", "replicas of one group must agree on it"),
    ("allow.auto.create.topics", "topics are created by `belfry topics apply`"),
];

/// Why Kafka's clients cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum KafkaConfigError {
    /// A setting that cannot be changed.
    #[error("kafka.properties: {name} cannot be set: {why}")]
    Fixed {
        /// The setting.
        name: String,
        /// Why it cannot be changed.
        why: &'static str,
    },
    /// A setting that librdkafka does not know, or a value that it does not accept.
    #[error("kafka.properties: {name}: {why}; see librdkafka's list of settings")]
    Setting {
        /// The setting.
        name: String,
        /// librdkafka's message, with secret values hidden.
        why: String,
    },
    /// A secret's file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// librdkafka rejects the configuration.
    #[error("kafka: {0}; check kafka.brokers and kafka.properties")]
    Client(#[from] KafkaError),
}

/// The configuration from which clients of one cluster are created. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// Checks the configuration, and returns it for creating clients. `replica` is this replica's name, if it has one.
    pub fn new(settings: &Kafka, replica: Option<&str>) -> Result<Self, KafkaConfigError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &settings.brokers);
        config.set("client.id", replica.map_or_else(|| "belfry".to_owned(), |name| format!("belfry-{name}")));
        config.set("socket.keepalive.enable", "true");
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "1000");
        let mut hidden = Vec::new();
        for (written, value) in &settings.properties {
            let name = written.strip_suffix("_file").unwrap_or(written);
            if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
                return Err(KafkaConfigError::Fixed { name: name.to_owned(), why });
            }
            let mut value = value.to_string();
            if name != written {
                value = secret(&format!("kafka.properties.{written}"), value.as_ref())?;
            }
            if name != written || is_secret(name) {
                hidden.push(value.clone());
            }
            config.set(name, value);
        }
        config.create_native_config().map_err(|error| without_values(error, &hidden))?;
        // Some settings, such as a certificate file, are only checked when a client is created.
        let _: BaseConsumer<Logged> = config.create_with_context(Logged)?;
        Ok(Self { config })
    }

    /// Returns the configuration of a producer that preserves order and loses nothing.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.config.clone();
        for (name, value) in [
            // While requests are in flight, new entries are batched anyway.
            ("linger.ms", "0"),
            // Every Kafka client reads uncompressed and gzip batches without additional libraries, but not lz4, snappy or
            // zstd. Gzip costs an additional 6 µs of CPU time per entry, more than everything else that a producer does
            // with it.
            ("compression.type", "none"),
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("request.timeout.ms", "10000"),
            ("retry.backoff.ms", "50"),
            ("message.max.bytes", "17000000"),
        ] {
            // The operator's value takes precedence.
            if self.config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("message.timeout.ms", "0");
        // An event and its notification are sent at the same time. More than two requests in flight only split new entries
        // into small batches, and make nothing faster.
        config.set("max.in.flight.requests.per.connection", "2");
        // Batches behind a refused one must not overtake it.
        config.set("enable.gapless.guarantee", "true");
        config.set("partitioner", "murmur2_random");
        config
    }

    /// Returns the configuration that all clients share.
    pub fn base(&self) -> ClientConfig {
        self.config.clone()
    }
}

/// Removes secret values from librdkafka's message, which quotes the value of a setting.
fn without_values(error: KafkaError, hidden: &[String]) -> KafkaConfigError {
    match error {
        KafkaError::ClientConfig(_, why, name, _) => {
            let visible = hidden.iter().filter(|value| !value.is_empty());
            let why = visible.fold(why, |why, value| why.replace(value, "(hidden)"));
            KafkaConfigError::Setting { name, why }
        }
        error => error.into(),
    }
}
