use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::checker::Seen;
use crate::servers::KafkaRecord;

/// Time limit while reading to the end without a record.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(5);

/// Time limit for a client to determine the topics' ends, before it is replaced: after the broker has been paused, a
/// client may fail to find its topics for the rest of its life.
const CLIENT_PATIENCE: Duration = Duration::from_secs(15);

/// Reads topics from their beginning, incrementally.
pub(super) struct Tail {
    bootstrap: String,
    consumer: Arc<BaseConsumer>,
    topics: Vec<String>,
    partitions: Vec<(usize, i32)>,
    /// The first unread offset of each partition.
    next: Vec<i64>,
}

impl Tail {
    pub(super) fn new(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        let consumer = client(bootstrap)?;
        let mut partitions = Vec::new();
        for (number, topic) in topics.iter().enumerate() {
            let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
            let known = metadata.topics().first().context("a topic")?.partitions();
            partitions.extend(known.iter().map(|partition| (number, partition.id())));
        }
        let mut tail = Self {
            bootstrap: bootstrap.to_owned(),
            consumer: Arc::new(consumer),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            next: vec![0; partitions.len()],
            partitions,
        };
        tail.begin()?;
        Ok(tail)
    }

    fn begin(&mut self) -> Result<()> {
        let mut assignment = TopicPartitionList::new();
        for ((topic, partition), next) in self.partitions.iter().zip(&self.next) {
            assignment.add_partition_offset(&self.topics[*topic], *partition, Offset::Offset(*next))?;
        }
        Ok(self.consumer.assign(&assignment)?)
    }

    /// Returns all new records up to the current end of each partition, in each partition's order.
    pub(super) async fn read(&mut self) -> Result<Vec<Seen>> {
        let ends = match self.ends(CLIENT_PATIENCE).await {
            Ok(ends) => ends,
            Err(_) => {
                self.consumer = Arc::new(client(&self.bootstrap)?);
                self.begin()?;
                self.ends(PATIENCE).await?
            }
        };
        let (consumer, topics, partitions) = (self.consumer.clone(), self.topics.clone(), self.partitions.clone());
        let read = tokio::task::spawn_blocking(move || {
            let seen = read_to(&ends, &consumer, &topics, &partitions)?;
            Ok::<_, anyhow::Error>((seen, positions(&consumer, &topics, &partitions)?))
        });
        let (seen, next) = read.await??;
        // The position of a partition is unknown until something was read there.
        self.next = next.into_iter().zip(&self.next).map(|(next, before)| next.max(*before)).collect();
        Ok(seen)
    }

    async fn ends(&self, patience: Duration) -> Result<Vec<i64>> {
        let (consumer, topics, partitions) = (self.consumer.clone(), self.topics.clone(), self.partitions.clone());
        let ask = move || {
            let end =
                |(topic, partition): &(usize, i32)| high_watermark(&consumer, &topics[*topic], *partition, patience);
            partitions.iter().map(end).collect()
        };
        tokio::task::spawn_blocking(ask).await?
    }
}

fn client(bootstrap: &str) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "belfry-tests-tail")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .set("queued.max.messages.kbytes", "4096")
        .set("reconnect.backoff.max.ms", "500")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
        .create()?)
}

fn read_to(ends: &[i64], consumer: &BaseConsumer, topics: &[String], partitions: &[(usize, i32)]) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut last = Instant::now();
    while positions(consumer, topics, partitions)?.iter().zip(ends).any(|(at, end)| *end != 0 && at < end) {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                use rdkafka::Message;
                let topic = topics.iter().position(|topic| topic == message.topic()).context("a known topic")?;
                seen.extend(Seen::of(topic, &KafkaRecord::from(&message)));
                last = Instant::now();
            }
            // The client reconnects automatically.
            Some(Err(_)) | None if last.elapsed() < PATIENCE => {}
            Some(Err(error)) => return Err(error.into()),
            None => bail!("no record and no end of {topics:?} for {PATIENCE:?}"),
        }
    }
    Ok(seen)
}

fn high_watermark(consumer: &BaseConsumer, topic: &str, partition: i32, patience: Duration) -> Result<i64> {
    let began = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, REQUEST) {
            Ok((_, high)) => return Ok(high),
            Err(error) if began.elapsed() > patience => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Returns the position of each partition, the first offset that the client has not returned; -1 if it has returned
/// none.
fn positions(consumer: &BaseConsumer, topics: &[String], partitions: &[(usize, i32)]) -> Result<Vec<i64>> {
    let positions = consumer.position()?;
    let at = |(topic, partition): &(usize, i32)| {
        let found = positions.find_partition(&topics[*topic], *partition);
        found.and_then(|found| found.offset().to_raw()).unwrap_or(-1)
    };
    Ok(partitions.iter().map(at).collect())
}
