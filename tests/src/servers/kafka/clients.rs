use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use super::{Kafka, KafkaRecord, TopicReader};

/// Time limit for the broker's responses.
const PATIENCE: Duration = Duration::from_secs(20);

/// Operations of tests on a broker, always through the direct listener, past any proxy.
impl Kafka {
    /// Creates a topic and waits until it can be used.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let results = self.admin()?.create_topics([&topic], &options()).await?;
        for result in results {
            result.map_err(|(topic, code)| anyhow!("Kafka refused to create topic {topic}: {code}"))?;
        }
        self.wait_for_topic(name, Some(partitions)).await
    }

    /// Creates a topic that several tests of a suite use on the same broker, unless it exists.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn require_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for result in self.admin()?.create_topics([&topic], &options()).await? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => bail!("Kafka refused to create topic {topic}: {code}"),
            }
        }
        self.wait_for_topic(name, Some(partitions)).await
    }

    /// Denies all clients write access to a topic, or allows it again. The broker needs an authorizer.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn forbid_writing(&self, topic: &str, forbidden: bool) -> Result<()> {
        let change = if forbidden { "--add" } else { "--remove" };
        for (whom, operations) in [
            ("--deny-principal", &["--operation", "Write"][..]),
            // Once a topic has an ACL, every operation that none allows is denied.
            (
                "--allow-principal",
                &["--operation", "Describe", "--operation", "DescribeConfigs", "--operation", "Read"][..],
            ),
        ] {
            let server = self.direct();
            let mut arguments = vec!["--bootstrap-server", &server, change, whom, "User:*", "--topic", topic];
            arguments.extend(operations);
            arguments.extend((!forbidden).then_some("--force"));
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            self.distribution.run("org.apache.kafka.tools.AclCommand", &arguments).await?;
        }
        Ok(())
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let results = self.admin()?.delete_topics(&[name], &options()).await?;
        for result in results {
            result.map_err(|(topic, code)| anyhow!("Kafka refused to delete topic {topic}: {code}"))?;
        }
        self.wait_for_topic(name, None).await
    }

    /// Replaces a topic's settings and waits until the broker reports the new ones.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn set_topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        let admin = self.admin()?;
        let config = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = settings.iter().fold(config, |config, (setting, value)| config.set(setting, value));
        for result in admin.alter_configs([&config], &options()).await? {
            result.map_err(|(_, code)| anyhow!("Kafka refused settings of topic {name}: {code}"))?;
        }
        let began = Instant::now();
        loop {
            let described = admin.describe_configs([&ResourceSpecifier::Topic(name)], &options()).await?.remove(0);
            let described = described.map_err(|code| anyhow!("Kafka does not describe topic {name}: {code}"))?;
            let value = |setting: &str| described.get(setting).and_then(|entry| entry.value.clone());
            if settings.iter().all(|(setting, wanted)| value(setting).as_deref() == Some(*wanted)) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("topic {name} does not report its settings after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns all records of a topic up to now.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`TopicReader::read`].
    pub async fn read_topic(&self, name: &str) -> Result<Vec<KafkaRecord>> {
        TopicReader::new(self.direct()).read(name).await
    }

    /// Writes a record to the partition that Java's clients choose for this key. Returns partition and offset.
    ///
    /// # Errors
    /// Returns an error if the broker does not accept it.
    pub async fn produce(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        payload: Option<&[u8]>,
    ) -> Result<(i32, i64)> {
        self.produce_at(topic, key, headers, payload, None).await
    }

    /// Writes a record with a given timestamp, in milliseconds since the epoch.
    ///
    /// # Errors
    /// Returns an error if the broker does not accept it.
    pub async fn produce_at(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        payload: Option<&[u8]>,
        written_ms: Option<i64>,
    ) -> Result<(i32, i64)> {
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (name, value) in headers {
            owned = owned.insert(Header { key: name, value: Some(*value) });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(owned);
        record.key = key;
        record.payload = payload;
        record.timestamp = written_ms;
        match self.producer()?.send(record, PATIENCE).await {
            Ok(delivery) => Ok((delivery.partition, delivery.offset)),
            Err((error, _)) => Err(error).with_context(|| format!("Kafka did not accept a record for topic {topic}")),
        }
    }

    fn producer(&self) -> Result<&FutureProducer> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let producer = self
            .client()
            .set("partitioner", "murmur2_random")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "20000")
            .set("message.max.bytes", "4194304")
            .create()?;
        Ok(self.producer.get_or_init(|| producer))
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.direct());
        client.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        client.set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        client
    }

    /// Waits until the broker responds.
    pub(super) async fn wait_for_broker(&self, patience: Duration) -> Result<()> {
        let (client, address) = (self.client(), self.direct());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create()?;
            let began = Instant::now();
            loop {
                match consumer.fetch_metadata(None, Duration::from_secs(1)) {
                    Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
                    Err(error) if began.elapsed() > patience => {
                        return Err(error).with_context(|| format!("Kafka at {address} does not respond"));
                    }
                    _ => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        })
        .await?
    }

    /// Waits until the topic has `wanted` partitions with a leader, or is gone if `wanted` is `None`.
    async fn wait_for_topic(&self, name: &str, wanted: Option<i32>) -> Result<()> {
        let (client, name) = (self.client(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create()?;
            let began = Instant::now();
            loop {
                // A request for the metadata of all topics creates none.
                let metadata = consumer.fetch_metadata(None, PATIENCE)?;
                let topic = metadata.topics().iter().find(|topic| topic.name() == name);
                let led = topic.map(|topic| topic.partitions().iter().filter(|part| part.leader() >= 0).count());
                if led == wanted.and_then(|count| usize::try_from(count).ok()) {
                    return Ok(());
                }
                if began.elapsed() > PATIENCE {
                    bail!("topic {name} has {led:?} partitions with a leader after {PATIENCE:?}, not {wanted:?}");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        })
        .await?
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}
