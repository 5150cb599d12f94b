//! The Kafka sink: the records that consumers read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Kafka, KafkaOptions, KafkaRecord, shared_kafka, shared_postgres};
use belfry_tests::{Batch, Replica, TestService, eventually, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

const EVENTS: &str = "huleedu.ras.batch.results.ready.v1";
const PATIENCE: Duration = Duration::from_secs(30);

/// A service with its own database and its own topic.
struct Setting {
    service: TestService,
    kafka: &'static Kafka,
    topic: String,
}

impl Setting {
    async fn new(settings: &[(&str, &str)]) -> Result<Self> {
        let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
        // Events go to the topic of their type, which all tests share.
        kafka.require_topic(EVENTS, 4).await?;
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

    /// Waits until there are at least `count` notifications, and returns all of them.
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
    let envelope: Value = serde_json::from_slice(record.payload.as_deref().context("no value")?)?;
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
        ensure!(header(name) == expected, "{name}: {:?}, expected {expected:?}", header(name));
    }
    setting.service.stop().await;
    Ok(())
}

/// Checks that partitions are chosen by murmur2, as in Java's and Python's clients. No other hash would match for all keys.
#[tokio::test]
async fn keys_go_where_javas_partitioner_puts_them() -> Result<()> {
    let setting = Setting::new(&[]).await?;
    for number in 0..7 {
        setting.post(number).await?;
    }
    for record in setting.notifications(7).await? {
        let key = record.key.context("no key")?;
        let expected = (murmur2(&key) & 0x7fff_ffff) % 4;
        ensure!(
            record.partition as u32 == expected,
            "{}: {}, expected {expected}",
            String::from_utf8_lossy(&key),
            record.partition
        );
    }
    setting.service.stop().await;
    Ok(())
}

/// Returns the hash that Kafka's `Utils.murmur2` defines.
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
        let place = place(record.header("event_id").context("no id")?);
        let partition = &mut last[usize::try_from(record.partition)?];
        ensure!(*partition < place, "out of order: {place:?} after {partition:?}");
        *partition = place;
    }
    setting.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_for_a_topic_that_is_missing_is_sent_when_it_is_made() -> Result<()> {
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
    let envelope: Value = serde_json::from_slice(records[0].payload.as_deref().context("no value")?)?;
    ensure!(envelope["data"]["batch_id"] == json!("batch-2") && records.len() == 1, "{records:?}");
    sending.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_replica_that_cannot_reach_kafka_leaves_the_sink_to_one_that_can() -> Result<()> {
    let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
    kafka.require_topic(EVENTS, 4).await?;
    let topic = format!("notifications-{}", Uuid::new_v4());
    kafka.create_topic(&topic, 1, &[]).await?;
    let database = postgres.create_database().await?;
    let settings = |brokers: String| {
        [
            ("kafka.brokers", brokers),
            ("kafka.topics", "[]".to_owned()),
            ("notification.topic", topic.clone()),
            ("sink.kafka.enabled", "true".to_owned()),
        ]
    };
    // No broker listens on this port.
    let cut_off = Replica::start(&database, None, &settings("127.0.0.1:1".into())).await?;
    cut_off.wait_until_it_serves("kafka").await?;
    let healthy = Replica::start(&database, None, &settings(kafka.bootstrap())).await?;
    let posted = cut_off.client().post(&results_ready(&Batch::number(1))).await?;
    ensure!(posted.status == 201, "{posted:?}");
    let arrived =
        eventually("the notification arrives", async || kafka.read_topic(&topic).await, |records| records.len() == 1)
            .await?;
    ensure!(arrived.len() == 1 && healthy.serves("kafka").await?, "the other replica sends to the sink");
    cut_off.terminate().await?;
    healthy.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn a_sink_that_was_off_while_events_came_waits_for_a_word() -> Result<()> {
    let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
    kafka.require_topic(EVENTS, 4).await?;
    let topic = format!("notifications-{}", Uuid::new_v4());
    kafka.create_topic(&topic, 1, &[]).await?;
    let database = postgres.create_database().await?;
    let start = async |enabled: bool, resume: Option<&str>| {
        let mut settings = vec![
            ("kafka.brokers", kafka.bootstrap()),
            ("kafka.topics", "[]".to_owned()),
            ("notification.topic", topic.clone()),
            ("sink.kafka.enabled", enabled.to_string()),
        ];
        settings.extend(resume.map(|resume| ("sink.kafka.resume", resume.to_owned())));
        Replica::start(&database, None, &settings).await
    };
    let post = async |replica: &Replica, number: u64| {
        let posted = replica.client().post(&results_ready(&Batch::number(number))).await?;
        ensure!(posted.status == 201, "{posted:?}");
        Ok(posted.body["notifications"][0]["event_id"].as_str().unwrap_or_default().to_owned())
    };
    let sent = async || {
        let records = kafka.read_topic(&topic).await?;
        anyhow::Ok(records.iter().filter_map(|record| record.header("event_id").map(str::to_owned)).collect::<Vec<_>>())
    };
    let on = start(true, None).await?;
    let first = post(&on, 1).await?;
    eventually("the first is sent", sent, |sent| *sent == [first.clone()]).await?;
    on.terminate().await?;
    // No entry was missed, so no confirmation is needed.
    let on = start(true, None).await?;
    on.wait_until_it_serves("kafka").await?;
    on.terminate().await?;

    let off = start(false, None).await?;
    let missed = post(&off, 2).await?;
    off.terminate().await?;
    let asking = start(true, None).await?;
    let readiness = asking.readiness().await?;
    let error = readiness["sinks"][0]["error"].as_str().unwrap_or_default().to_owned();
    ensure!(error.contains("would be sent 2 entries") && error.contains("sink.kafka.resume"), "{readiness}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(sent().await? == [first.clone()], "an entry is sent without confirmation");
    asking.terminate().await?;
    let resumed = start(true, Some("position")).await?;
    eventually("the missed one is sent", sent, |sent| *sent == [first.clone(), missed.clone()]).await?;
    resumed.terminate().await?;

    let off = start(false, None).await?;
    let left_out = post(&off, 3).await?;
    off.terminate().await?;
    let resumed = start(true, Some("end")).await?;
    let next = post(&resumed, 4).await?;
    eventually("the next is sent", sent, |sent| *sent == [first.clone(), missed.clone(), next.clone()]).await?;
    let explained = resumed.client().get(&format!("/v1/notifications/{left_out}")).await?;
    ensure!(explained.body["deliveries"][0]["state"] == "before-the-sink", "{explained:?}");
    resumed.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn a_topic_that_may_not_be_written_is_held_back_and_no_other() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let authorizer = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let options = KafkaOptions { settings: &authorizer, ..KafkaOptions::default() };
    let kafka = Kafka::start_with(directory.path(), options).await?;
    let (database, brokers) = (shared_postgres().await?.create_database().await?, kafka.bootstrap());
    let settings = [
        ("preset", "testing"),
        ("store.url", database.url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("notification.topic", "notifications"),
        ("sink.kafka.enabled", "true"),
        ("publish.topics", r#"["*"]"#),
    ];
    let service = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &settings).await?;
    let client = service.client();
    let event = |topic: &str, number: u64| {
        json!({
            "event_id": Uuid::new_v4(), "event_type": topic, "event_timestamp": "2026-03-02T09:15:01Z",
            "source_service": "tests", "data": { "batch_id": "a", "number": number }
        })
    };
    // A broker that has just started may list no topics at all. Events are not rejected because of that.
    let posted = client.post(&event("first", 0)).await?;
    ensure!(posted.status == 201, "{posted:?}");
    kafka.create_topic("first", 1, &[]).await?;
    eventually("the event arrives", async || kafka.read_topic("first").await, |records| records.len() == 1).await?;

    for topic in ["forbidden", "notifications", EVENTS] {
        kafka.create_topic(topic, 1, &[]).await?;
    }
    kafka.forbid_writing("forbidden", true).await?;
    let mut forbidden = Vec::new();
    for number in 0..30 {
        let event = event("forbidden", number);
        forbidden.push(event["event_id"].as_str().unwrap_or_default().to_owned());
        // Alternates with events whose notifications go to a writable topic.
        for event in [event, results_ready(&Batch::number(number))] {
            let posted = client.post(&event).await?;
            ensure!(posted.status == 201, "{posted:?}");
        }
    }
    let others = async || kafka.read_topic("notifications").await;
    let all = |records: &Vec<KafkaRecord>| {
        let ids: std::collections::BTreeSet<_> = records.iter().map(|record| record.header("event_id")).collect();
        ids.len() == 30
    };
    eventually("other topics continue", others, all).await?;
    let parked = async || Ok(client.get("/v1/parked").await?.body["parked"].as_array().map_or(0, Vec::len));
    eventually("the topic's entries are parked", parked, |parked| *parked == 30).await?;
    let listed = client.get("/v1/parked?limit=1").await?;
    ensure!(listed.body["parked"][0]["scope"] == "topic", "{listed:?}");
    kafka.forbid_writing("forbidden", false).await?;
    // Belfry would retry automatically within a minute.
    let asked = client.post_to("/v1/parked/unpark", &json!({ "topic": "forbidden" })).await?;
    ensure!(asked.body["entries"] == 30, "{asked:?}");
    let arrived = async || {
        let records = kafka.read_topic("forbidden").await?;
        anyhow::Ok(records.iter().filter_map(|record| record.header("event_id").map(str::to_owned)).collect::<Vec<_>>())
    };
    eventually("the entries arrive in order", arrived, |ids| *ids == forbidden).await?;
    eventually("nothing is parked", parked, |parked| *parked == 0).await?;
    service.stop().await;
    kafka.stop().await
}
