use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::checker::Seen;
use crate::servers::KafkaRecord;

/// What reading to the end may take without a record.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(5);

/// Reads topics from their beginning, bit by bit.
pub(super) struct Tail {
    consumer: Arc<BaseConsumer>,
    topics: Vec<String>,
    partitions: Vec<(usize, i32)>,
}

impl Tail {
    pub(super) fn new(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "belfry-tests-tail")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .set("queued.max.messages.kbytes", "4096")
            .set("reconnect.backoff.max.ms", "500")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()?;
        let (mut assignment, mut partitions) = (TopicPartitionList::new(), Vec::new());
        for (number, topic) in topics.iter().enumerate() {
            let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
            for partition in metadata.topics().first().context("a topic")?.partitions() {
                assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
                partitions.push((number, partition.id()));
            }
        }
        consumer.assign(&assignment)?;
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Ok(Self { consumer: Arc::new(consumer), topics, partitions })
    }

    /// All that is new up to where each partition ends now, in each partition's order.
    pub(super) async fn read(&mut self) -> Result<Vec<Seen>> {
        let (consumer, topics, partitions) = (self.consumer.clone(), self.topics.clone(), self.partitions.clone());
        tokio::task::spawn_blocking(move || read_blocking(&consumer, &topics, &partitions)).await?
    }
}

fn read_blocking(consumer: &BaseConsumer, topics: &[String], partitions: &[(usize, i32)]) -> Result<Vec<Seen>> {
    let mut ends = Vec::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        ends.push(high_watermark(consumer, &topics[*topic], *partition)?);
    }
    let mut seen = Vec::new();
    let mut last = Instant::now();
    while !has_read(consumer, topics, partitions, &ends)? {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                use rdkafka::Message;
                let topic = topics.iter().position(|topic| topic == message.topic()).context("a topic of ours")?;
                seen.extend(Seen::of(topic, &KafkaRecord::from(&message)));
                last = Instant::now();
            }
            // The client connects again by itself.
            Some(Err(_)) | None if last.elapsed() < PATIENCE => {}
            Some(Err(error)) => return Err(error.into()),
            None => bail!("no record and no end of {topics:?} for {PATIENCE:?}"),
        }
    }
    Ok(seen)
}

fn high_watermark(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<i64> {
    let began = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, REQUEST) {
            Ok((_, high)) => return Ok(high),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => {
                // After a long silence the client knows no leader any more, and asks for none by itself.
                let _ = consumer.fetch_metadata(Some(topic), REQUEST);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn has_read(consumer: &BaseConsumer, topics: &[String], partitions: &[(usize, i32)], ends: &[i64]) -> Result<bool> {
    let positions = consumer.position()?;
    let at = |topic: usize, partition: i32| {
        let found = positions.find_partition(&topics[topic], partition);
        found.and_then(|found| found.offset().to_raw()).unwrap_or(-1)
    };
    Ok(partitions.iter().zip(ends).all(|((topic, partition), end)| *end == 0 || at(*topic, *partition) >= *end))
}
