//! `belfry audit` on a topic with planted faults: it finds each of them, and reports no others.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_tests::servers::{Kafka, KafkaRecord, shared_postgres};
use belfry_tests::{Batch, Ended, TestService, belfry, eventually, results_ready};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

const EVENTS: u64 = 60;

async fn audit(kafka: &Kafka, store: &str, notifications: &str, more: &[&str]) -> Result<Ended> {
    let settings = [
        format!("store.url={store}"),
        format!("kafka.brokers={}", kafka.bootstrap()),
        format!("notification.topic={notifications}"),
    ];
    let mut arguments = vec!["--output", "json", "audit"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    arguments.extend(more);
    belfry(&arguments).await
}

fn id(record: &KafkaRecord) -> String {
    record.header("event_id").unwrap_or_default().to_owned()
}

/// Returns the notification with another id, and as a notification of `source_event_id` if that is given.
fn forged(record: &KafkaRecord, source_event_id: Option<Uuid>) -> Result<KafkaRecord> {
    let event_id = Uuid::new_v4().to_string();
    let mut forged = record.clone();
    let mut envelope: Value = serde_json::from_slice(record.payload.as_deref().context("no payload")?)?;
    envelope["event_id"] = event_id.clone().into();
    if let Some(source_event_id) = source_event_id {
        envelope["metadata"]["belfry"]["source_event_id"] = source_event_id.to_string().into();
    }
    forged.payload = Some(envelope.to_string().into_bytes());
    for (name, value) in &mut forged.headers {
        if name == "event_id" {
            *value = Some(event_id.clone().into_bytes());
        }
    }
    Ok(forged)
}

async fn write(kafka: &Kafka, topic: &str, records: &[KafkaRecord]) -> Result<()> {
    for record in records {
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default())).collect();
        kafka.produce(topic, record.key.as_deref(), &headers, record.payload.as_deref()).await?;
    }
    Ok(())
}

/// A service with a broker of its own: an audit covers all records on the events' topic, to which other tests of this suite
/// publish, too.
struct Audited {
    _directory: TempDir,
    kafka: Kafka,
    store: String,
    topic: String,
    service: TestService,
}

impl Audited {
    async fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let kafka = Kafka::start(&directory.path().join("kafka")).await?;
        let store = shared_postgres().await?.create_database().await?.url;
        let topic = format!("audit.{}", Uuid::new_v4().simple());
        kafka.create_topic(&topic, 3, &[]).await?;
        kafka.create_topic("huleedu.ras.batch.results.ready.v1", 3, &[]).await?;
        let settings = [
            ("store.url", store.as_str()),
            ("kafka.brokers", &kafka.bootstrap()),
            ("kafka.topics", "[]"),
            ("sink.kafka.enabled", "true"),
            ("notification.topic", &topic),
        ];
        let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
        Ok(Self { _directory: directory, kafka, store, topic, service })
    }
}

#[tokio::test]
async fn a_loss_a_double_an_inversion_and_a_stranger_are_found_and_nothing_else() -> Result<()> {
    let Audited { _directory, kafka, store, topic, service } = Audited::start().await?;
    let client = service.client();
    for number in 0..EVENTS {
        client.post(&results_ready(&Batch::number(number))).await?;
    }
    let all = |records: &Vec<KafkaRecord>| records.len() as u64 == EVENTS;
    let records = eventually("all notifications are sent", async || kafka.read_topic(&topic).await, all).await?;
    service.stop().await;

    let clean = audit(&kafka, &store, &topic, &[]).await?;
    ensure!(clean.code == Some(0), "{clean:?}");
    let summary = &clean.json()?[0]["summary"];
    ensure!(summary["entries"] == EVENTS * 2 && summary["records"] == EVENTS * 2, "{summary}");
    ensure!(summary["repeats"] == 0 && summary["foreign"] == 0, "{summary}");
    // From a given time, and in a range of positions.
    let recent = audit(&kafka, &store, &topic, &["--from", "2020-01-01T00:00:00Z", "--topic", &topic]).await?;
    ensure!(recent.code == Some(0) && recent.json()?[0]["summary"]["entries"] == EVENTS, "{recent:?}");
    let middle = audit(&kafka, &store, &topic, &["--from", "41", "--to", "80"]).await?;
    ensure!(middle.code == Some(0) && middle.json()?[0]["summary"]["entries"] == 40, "{middle:?}");
    ensure!(middle.json()?[0]["summary"]["outside"] != 0, "{middle:?}");

    // The topic is written again, with faults.
    let mut by_key: HashMap<Vec<u8>, Vec<KafkaRecord>> = HashMap::new();
    records
        .iter()
        .for_each(|record| by_key.entry(record.key.clone().unwrap_or_default()).or_default().push(record.clone()));
    let of = |teacher: &str| by_key.get(teacher.as_bytes()).cloned().context("the teacher has no notifications");
    let (lost, inverted, doubled) =
        (id(&of("teacher-1")?[3]), id(&of("teacher-2")?[2]), forged(&of("teacher-3")?[1], None)?);
    let stranger = forged(&of("teacher-4")?[1], Some(Uuid::new_v4()))?;
    let mut faulty: Vec<KafkaRecord> = Vec::new();
    for (key, mut records) in by_key {
        match key.as_slice() {
            b"teacher-1" => drop(records.remove(3)),
            b"teacher-2" => records.swap(2, 3),
            b"teacher-3" => records.push(doubled.clone()),
            b"teacher-4" => records.push(stranger.clone()),
            // Sending the first record again after the last is allowed.
            b"teacher-5" => records.push(records[0].clone()),
            _ => {}
        }
        faulty.extend(records);
    }
    kafka.delete_topic(&topic).await?;
    kafka.create_topic(&topic, 3, &[]).await?;
    write(&kafka, &topic, &faulty).await?;
    kafka.produce(&topic, Some(b"teacher-6"), &[], Some(b"no envelope of ours")).await?;

    let ended = audit(&kafka, &store, &topic, &[]).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    let lines = ended.json()?;
    let (summary, findings) = lines.split_last().context("no summary")?;
    let found = |kind: &str| -> Vec<&str> {
        findings
            .iter()
            .filter(|finding| finding["finding"] == kind)
            .filter_map(|finding| finding["event_id"].as_str())
            .collect()
    };
    ensure!(found("missing") == [lost.as_str()], "{findings:?}");
    ensure!(found("inversion") == [inverted.as_str()], "{findings:?}");
    ensure!(found("doubled") == [id(&doubled)], "{findings:?}");
    ensure!(found("unknown") == [id(&stranger)], "{findings:?}");
    ensure!(findings.len() == 4, "{findings:?}");
    let summary = &summary["summary"];
    ensure!(summary["repeats"] == 1 && summary["foreign"] == 1 && summary["keys_with_findings"] == 2, "{summary}");
    Ok(())
}

#[tokio::test]
async fn what_was_discarded_is_counted_and_not_missed() -> Result<()> {
    let Audited { _directory, kafka, store, topic, service } = Audited::start().await?;
    // As if an entry with the teacher's key had been refused: later entries with that key are parked behind it.
    let mut log = PgConnection::connect(&store).await?;
    let planted =
        "INSERT INTO belfry.parked (sink, topic, event_key, id, error) VALUES ('kafka', $1, 'teacher-1', 0, 'no')";
    sqlx::query(planted).bind(&topic).execute(&mut log).await?;
    let service = service.restart().await?;
    let client = service.client();
    for number in 0..14 {
        client.post(&results_ready(&Batch::number(number))).await?;
    }
    let sent = async || kafka.read_topic(&topic).await;
    eventually("the other notifications are sent", sent, |records| records.len() == 12).await?;
    let parked = async || Ok(client.get("/v1/parked").await?.body["parked"].as_array().map_or(0, Vec::len));
    eventually("two entries are parked behind the planted one", parked, |parked| *parked == 3).await?;
    let summary = async || {
        let audited = audit(&kafka, &store, &topic, &[]).await?;
        Ok((audited.code, audited.json()?.pop().context("no summary")?["summary"].clone()))
    };
    let (code, waiting) = summary().await?;
    ensure!(code == Some(0) && waiting["parked"] == 2 && waiting["discarded"] == 0, "{waiting}");

    let url = client.url().to_owned();
    let reason = ["--key", "teacher-1", "--reason", "notified by telephone"];
    let discarded = belfry(&[&["--url", url.as_str(), "parked", "discard"][..], &reason].concat()).await?;
    ensure!(discarded.code == Some(0), "{discarded:?}");
    eventually("nothing is parked", parked, |parked| *parked == 0).await?;
    client.post(&results_ready(&Batch::number(15))).await?;
    eventually("later entries with the key are sent", sent, |records| records.len() == 13).await?;
    let all_is_noted = |(code, summary): &(Option<i32>, Value)| *code == Some(0) && summary["not_due"] == 0;
    let (_, after) = eventually("the sink has passed all entries", summary, all_is_noted).await?;
    ensure!(after["parked"] == 0 && after["discarded"] == 2 && after["entries"] == 30, "{after}");
    let shown = "SELECT count(*) FROM belfry.event_outbox WHERE status = 'discarded' AND published_at IS NULL";
    let shown: i64 = sqlx::query_scalar(shown).fetch_one(&mut log).await?;
    ensure!(shown == 2, "{shown} entries are shown as discarded");

    // Without the record of discarded entries, they count as missing.
    sqlx::query("DELETE FROM belfry.discarded").execute(&mut log).await?;
    let ended = audit(&kafka, &store, &topic, &[]).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    service.stop().await;
    Ok(())
}
