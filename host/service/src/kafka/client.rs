use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::Logged;
use crate::config::{Kafka, SecretError, is_secret, secret};

/// Settings that Belfry's promises depend on. They cannot be set.
const FIXED: [(&str, &str); 27] = [
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group"),
    ("group.instance.id", "it is replica.name"),
    ("enable.idempotence", "a retried batch must not be doubled or overtaken"),
    ("acks", "an acknowledgement must mean that all replicas in sync have the entry"),
    ("request.required.acks", "an acknowledgement must mean that all replicas in sync have the entry"),
    ("max.in.flight", "more than five requests in flight lose their order"),
    ("max.in.flight.requests.per.connection", "more than five requests in flight lose their order"),
    ("retries", "an entry is never given up"),
    ("message.send.max.retries", "an entry is never given up"),
    ("message.timeout.ms", "an entry that timed out would be overtaken"),
    ("delivery.timeout.ms", "an entry that timed out would be overtaken"),
    ("partitioner", "every client of the platform must put a key into the same partition"),
    ("enable.gapless.guarantee", "an entry must not pass one of its key that was refused"),
    ("queuing.strategy", "entries leave in the order in which they came"),
    ("transactional.id", "no transactions are used"),
    ("delivery.report.only.error", "every entry's acknowledgement is needed"),
    ("enable.auto.commit", "the database's position is the truth"),
    ("auto.commit.enable", "the database's position is the truth"),
    ("enable.auto.offset.store", "the database's position is the truth"),
    ("enable.partition.eof", "the source does not look at it"),
    ("auto.offset.reset", "a position that the broker does not have must not be replaced in silence"),
    ("isolation.level", "events of aborted transactions must not be seen"),
    ("partition.assignment.strategy", "replicas of one group must agree on it"),
    ("group.protocol", "replicas of one group must agree on it"),
    ("allow.auto.create.topics", "topics are made by `belfry topics apply`"),
];

/// Why Kafka's clients cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum KafkaConfigError {
    /// A setting that must stay as it is.
    #[error("kafka.properties: {name} cannot be set: {why}")]
    Fixed {
        /// The setting.
        name: String,
        /// What depends on it.
        why: &'static str,
    },
    /// A setting that librdkafka does not know, or not with this value.
    #[error("kafka.properties: {name}: {why}; see librdkafka's list of settings")]
    Setting {
        /// The setting.
        name: String,
        /// What librdkafka says, without what may be secret.
        why: String,
    },
    /// A secret's file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// librdkafka refuses.
    #[error("kafka: {0}; check kafka.brokers and kafka.properties")]
    Client(#[from] KafkaError),
}

/// How clients of one cluster are made. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// From the configuration; `replica` is this replica's name, if it has one.
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
        // Some things, such as a file of certificates, are only looked at when a client is made.
        let _: BaseConsumer<Logged> = config.create_with_context(Logged)?;
        Ok(Self { config })
    }

    /// For a producer that keeps order and loses nothing.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.config.clone();
        for (name, value) in [
            // While requests are under way, what comes meanwhile is gathered anyway.
            ("linger.ms", "0"),
            // Every client of Kafka reads this and gzip with nothing installed beside it, and not lz4, snappy or zstd. Gzip
            // costs 6 µs of processor an entry more, which is more than all else that a producer does with it.
            ("compression.type", "none"),
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("request.timeout.ms", "10000"),
            ("retry.backoff.ms", "50"),
            ("message.max.bytes", "17000000"),
        ] {
            // What an operator chose stands.
            if self.config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("message.timeout.ms", "0");
        // An event and its notification go at the same time. More than two requests under way only make small batches of
        // what comes meanwhile, and nothing faster.
        config.set("max.in.flight.requests.per.connection", "2");
        // What stands behind a refused batch must not pass it.
        config.set("enable.gapless.guarantee", "true");
        config.set("partitioner", "murmur2_random");
        config
    }

    /// What all clients share.
    pub fn base(&self) -> ClientConfig {
        self.config.clone()
    }
}

/// What librdkafka says of a setting quotes its value.
fn without_values(error: KafkaError, hidden: &[String]) -> KafkaConfigError {
    match error {
        KafkaError::ClientConfig(_, why, name, _) => {
            let told = hidden.iter().filter(|value| !value.is_empty());
            let why = told.fold(why, |why, value| why.replace(value, "(hidden)"));
            KafkaConfigError::Setting { name, why }
        }
        error => error.into(),
    }
}
