use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Time limit while reading a topic without a record or the end of a partition.
const PATIENCE: Duration = Duration::from_secs(30);

/// A record as a consumer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its payload; `None` for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp in milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

impl KafkaRecord {
    /// Returns the first header with this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

impl From<&BorrowedMessage<'_>> for KafkaRecord {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_owned),
            payload: message.payload().map(<[u8]>::to_owned),
            headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_owned))).collect(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

/// Reads whole topics, with a consumer that commits nothing.
#[derive(Clone, Debug)]
pub struct TopicReader {
    bootstrap: String,
}

impl TopicReader {
    /// Creates a reader of the topics at this address.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into() }
    }

    /// Returns all records from the beginning to the current end of each partition, sorted by partition and offset,
    /// without those of transactions that have not committed.
    ///
    /// # Errors
    /// Returns an error if the topic does not exist or the broker does not respond.
    pub async fn read(&self, topic: &str) -> Result<Vec<KafkaRecord>> {
        let (reader, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || reader.read_blocking(&topic)).await?
    }

    fn read_blocking(&self, topic: &str) -> Result<Vec<KafkaRecord>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            // The client library requires a group id for every consumer; nothing is committed for it.
            .set("group.id", "belfry-tests-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        let mut unfinished: BTreeSet<i32> = partitions.iter().map(|partition| partition.id()).collect();
        if unfinished.is_empty() {
            bail!("there is no topic {topic} at {}; create it before it is read", self.bootstrap);
        }
        let mut assignment = TopicPartitionList::new();
        for partition in &unfinished {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;

        let mut records = Vec::new();
        let mut last = Instant::now();
        while !unfinished.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(KafkaRecord::from(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unfinished.remove(&partition);
                }
                Some(Err(error)) => return Err(error).with_context(|| format!("cannot read topic {topic}")),
                None if last.elapsed() > PATIENCE => bail!("no record and no end of {topic} for {PATIENCE:?}"),
                None => continue,
            }
            last = Instant::now();
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }
}
