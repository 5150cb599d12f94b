//! From the log to Kafka: what consumers find on the topics.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Kafka, KafkaRecord, shared_kafka, shared_postgres};
use belfry_tests::{Batch, TestService, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

const EVENTS: &str = "huleedu.ras.batch.results.ready.v1";
const PATIENCE: Duration = Duration::from_secs(30);

/// A service on a database and a topic of its own.
struct Setting {
    service: TestService,
    kafka: &'static Kafka,
    topic: String,
}

impl Setting {
    async fn new(settings: &[(&str, &str)]) -> Result<Self> {
        let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
        // Events go to the topic of their type, which all tests share.
        let _ = kafka.create_topic(EVENTS, 4, &[]).await;
        let topic = format!("notifications-{}", Uuid::new_v4());
        kafka.create_topic(&topic, 4, &[]).await?;
        let (url, brokers) = (postgres.create_database().await?.url, kafka.bootstrap());
        let mut all = vec![
            ("preset", "testing"),
            ("store.url", url.as_str()),
            ("kafka.brokers", brokers.as_str()),
            ("kafka.topics", "[]"),
            ("notification.topic", topic.as_str()),
            ("sink.kafka.enabled", "true"),
        ];
        all.extend_from_slice(settings);
        let service = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &all).await?;
        Ok(Self { service, kafka, topic })
    }

    async fn post(&self, number: u64) -> Result<Value> {
        let posted = self.service.client().post(&results_ready(&Batch::number(number))).await?;
        ensure!(posted.status == 201, "{posted:?}");
        Ok(posted.body)
    }

    /// The notifications, once there are so many.
    async fn notifications(&self, count: usize) -> Result<Vec<KafkaRecord>> {
        let began = std::time::Instant::now();
        loop {
            let records = self.kafka.read_topic(&self.topic).await?;
            if records.len() >= count {
                return Ok(records);
            }
            ensure!(began.elapsed() < PATIENCE, "{} of {count} notifications after {PATIENCE:?}", records.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn a_notification_arrives_with_the_platforms_headers_and_key() -> Result<()> {
    let setting = Setting::new(&[]).await?;
    let posted = setting.post(1).await?;
    let records = setting.notifications(1).await?;
    let record = &records[0];
    let batch = Batch::number(1);
    ensure!(record.key.as_deref() == Some(batch.teacher.as_bytes()), "{record:?}");
    let envelope: Value = serde_json::from_slice(record.payload.as_deref().context("a value")?)?;
    ensure!(envelope["event_id"] == posted["notifications"][0]["event_id"], "{envelope}");
    let header = |name| record.header(name).map(str::to_owned);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for (name, expected) in [
        ("event_id", text(&envelope["event_id"])),
        ("event_type", Some(setting.topic.clone())),
        ("trace_id", text(&envelope["correlation_id"])),
        ("source_service", text(&envelope["source_service"])),
        ("schema_version", Some("1".to_owned())),
        ("occurred_at", text(&envelope["event_timestamp"])),
        ("content_type", Some("application/json".to_owned())),
    ] {
        ensure!(header(name) == expected, "{name}: {:?}, not {expected:?}", header(name));
    }
    setting.service.stop().await;
    Ok(())
}

/// Murmur2 as Java's and Python's clients have it: a partition that another hash would not choose for all keys.
#[tokio::test]
async fn keys_go_where_javas_partitioner_puts_them() -> Result<()> {
    let setting = Setting::new(&[]).await?;
    for number in 0..7 {
        setting.post(number).await?;
    }
    for record in setting.notifications(7).await? {
        let key = record.key.context("a key")?;
        let expected = (murmur2(&key) & 0x7fff_ffff) % 4;
        ensure!(
            record.partition as u32 == expected,
            "{}: {} not {expected}",
            String::from_utf8_lossy(&key),
            record.partition
        );
    }
    setting.service.stop().await;
    Ok(())
}

/// As Kafka's `Utils.murmur2` defines it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[tokio::test]
async fn each_key_is_in_the_order_of_the_log_and_nothing_is_sent_twice() -> Result<()> {
    let setting = Setting::new(&[]).await?;
    let lines: Vec<String> = (0..500).map(|number| results_ready(&Batch::number(number)).to_string()).collect();
    let answers = setting.service.client().post_lines(lines.join("\n")).await?;
    let records = setting.notifications(500).await?;
    ensure!(records.len() == 500, "{}", records.len());
    let order: Vec<&str> =
        answers.iter().filter_map(|answer| answer["notifications"][0]["event_id"].as_str()).collect();
    let place = |id: &str| order.iter().position(|known| *known == id);
    let mut last = [None; 4];
    for record in &records {
        let place = place(record.header("event_id").context("an id")?);
        let partition = &mut last[usize::try_from(record.partition)?];
        ensure!(*partition < place, "out of order: {place:?} after {partition:?}");
        *partition = place;
    }
    setting.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_topic_that_is_missing_stops_the_sink_until_it_is_made() -> Result<()> {
    let missing = format!("missing-{}", Uuid::new_v4());
    let setting = Setting::new(&[("notification.topic", &missing)]).await?;
    setting.post(1).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    setting.kafka.create_topic(&missing, 1, &[]).await?;
    let made = Setting { topic: missing, ..setting };
    made.notifications(1).await?;
    made.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_recorded_while_observing_is_never_sent() -> Result<()> {
    let observing = Setting::new(&[("delivery.mode", "observe")]).await?;
    observing.post(1).await?;
    let url = observing.service.config().store.url.clone();
    observing.service.stop().await;
    let brokers = observing.kafka.bootstrap();
    let settings = [
        ("store.url", url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("notification.topic", observing.topic.as_str()),
        ("sink.kafka.enabled", "true"),
    ];
    let service = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &settings).await?;
    let sending = Setting { service, kafka: observing.kafka, topic: observing.topic };
    sending.post(2).await?;
    let records = sending.notifications(1).await?;
    let envelope: Value = serde_json::from_slice(records[0].payload.as_deref().context("a value")?)?;
    ensure!(envelope["data"]["batch_id"] == json!("batch-2") && records.len() == 1, "{records:?}");
    sending.service.stop().await;
    Ok(())
}
