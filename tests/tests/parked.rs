//! What Kafka refuses: parked with its key, sent again in order, or discarded; and what is refused before it is recorded.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_tests::servers::{Kafka, shared_kafka, shared_postgres};
use belfry_tests::{Batch, Client, TestService, belfry, eventually, results_ready};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// What a topic takes at most after somebody lowered it.
const LOW: &str = "4000";

fn event(topic: &str, key: &str, text: &str) -> Value {
    json!({
        "event_id": Uuid::new_v4(),
        "event_type": topic,
        "event_timestamp": "2026-03-02T09:15:01Z",
        "source_service": "tests",
        "data": { "batch_id": key, "text": text }
    })
}

/// A text that does not get smaller by compression.
fn long(bytes: usize) -> String {
    (0..bytes / 36 + 1).map(|_| Uuid::new_v4().to_string()).collect()
}

async fn post(client: &Client, event: &Value) -> Result<String> {
    let posted = client.post(event).await?;
    ensure!(posted.status == StatusCode::CREATED, "{posted:?}");
    Ok(event["event_id"].as_str().unwrap_or_default().to_owned())
}

async fn ids(kafka: &Kafka, topic: &str, key: &str) -> Result<Vec<String>> {
    let records = kafka.read_topic(topic).await?;
    let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    // What was not noted as acknowledged when a session ended is repeated; first appearances count.
    let mut ids: Vec<String> = Vec::new();
    for id in of_key.filter_map(|record| record.header("event_id")) {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}

async fn parked(client: &Client) -> Result<Vec<Value>> {
    let listed = client.get("/v1/parked").await?;
    Ok(listed.body["parked"].as_array().context("a list")?.clone())
}

async fn service(kafka: &Kafka, store: &str, notifications: &str) -> Result<TestService> {
    let settings = [
        ("store.url", store),
        ("kafka.brokers", &kafka.bootstrap()),
        ("kafka.topics", "[]"),
        ("sink.kafka.enabled", "true"),
        ("notification.topic", notifications),
    ];
    TestService::start_with(TEACHER_RESULTS, &settings).await
}

#[tokio::test]
async fn a_refused_entry_holds_up_its_key_until_it_is_unparked_or_discarded() -> Result<()> {
    let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
    let topic = format!("parked.{}", Uuid::new_v4().simple());
    kafka.create_topic(&topic, 2, &[]).await?;
    let service = service(kafka, &database.url, &format!("{topic}.notifications")).await?;
    let client = service.client();
    let url = client.url().to_owned();
    let nothing = belfry(&["--url", &url, "parked", "unpark", "--all"]).await?;
    ensure!(nothing.code == Some(4), "{nothing:?}");

    let first = post(&client, &event(&topic, "a", "small")).await?;
    eventually("the first is sent", async || ids(kafka, &topic, "a").await, |ids| ids.len() == 1).await?;
    kafka.set_topic(&topic, &[("max.message.bytes", LOW)]).await?;
    // What Belfry knows of the topic is older than that, so it takes what the broker will refuse.
    let large = post(&client, &event(&topic, "a", &long(20_000))).await?;
    let behind = post(&client, &event(&topic, "a", "behind")).await?;
    let other = post(&client, &event(&topic, "b", "small")).await?;
    eventually("the other key is sent", async || ids(kafka, &topic, "b").await, |ids| *ids == [other.clone()]).await?;
    let held = eventually("both are parked", async || parked(&client).await, |held| held.len() == 2).await?;
    ensure!(held.iter().all(|entry| entry["key"] == "a" && entry["sink"] == "kafka"), "{held:?}");
    ensure!(held[0]["error"].as_str().is_some_and(|error| error.contains("max.message.bytes")), "{held:?}");
    let sent = ids(kafka, &topic, "a").await?;
    ensure!(sent == [first.clone()], "of {first}, {large}, {behind} there was sent {sent:?}");
    let listed = belfry(&["--url", &url, "parked", "list", "--topic", &topic, "--key", "a"]).await?;
    ensure!(listed.stdout.contains("an entry of its key was refused before"), "{listed:?}");

    // Refused again, it stays, and so does what is behind it.
    let in_vain = belfry(&["--url", &url, "--output", "json", "parked", "unpark", "--key", "a"]).await?;
    ensure!(in_vain.json()? == [json!({ "entries": 2 })], "{in_vain:?}");
    let done = |held: &Vec<Value>| held.len() == 2 && held.iter().all(|entry| entry["request"].is_null());
    eventually("it is refused again", async || parked(&client).await, done).await?;

    kafka.set_topic(&topic, &[("max.message.bytes", "1000000")]).await?;
    let unparked = belfry(&["--url", &url, "parked", "unpark", "--topic", &topic]).await?;
    ensure!(unparked.code == Some(0), "{unparked:?}");
    let unread = post(&client, &event(&topic, "a", "unread")).await?;
    let expected = [first, large, behind, unread];
    let seen = async || Ok((ids(kafka, &topic, "a").await?, parked(&client).await?));
    eventually("all are sent in order", seen, |(ids, held)| *ids == expected && held.is_empty()).await?;

    kafka.set_topic(&topic, &[("max.message.bytes", LOW)]).await?;
    let taken = client.post(&event(&topic, "c", &long(20_000))).await?.status;
    let next = post(&client, &event(&topic, "c", "next")).await?;
    // Now and then, what Belfry knows of the topic was renewed just then, and it was not taken.
    if taken == StatusCode::CREATED {
        let held = eventually("both are parked", async || parked(&client).await, |held| held.len() == 2).await?;
        let position = held[0]["position"].to_string();
        let discarded =
            belfry(&["--url", &url, "parked", "discard", "--position", &position, "--reason", "a test"]).await?;
        ensure!(discarded.code == Some(0), "{discarded:?}");
    }
    eventually("its key is free", async || ids(kafka, &topic, "c").await, |ids| *ids == [next.clone()]).await?;
    if taken == StatusCode::CREATED {
        let mut log = PgConnection::connect(&database.url).await?;
        let kept = sqlx::query_as("SELECT discarded_by, reason, event_key FROM belfry.discarded WHERE sink = 'kafka'");
        let kept: Vec<(String, String, String)> = kept.fetch_all(&mut log).await?;
        ensure!(kept == [("local".into(), "a test".into(), "c".into())], "{kept:?}");
    }

    for (path, body) in [
        ("/v1/parked/unpark", json!({})),
        ("/v1/parked/unpark", json!({ "key": "a", "all": true })),
        ("/v1/parked/discard", json!({ "key": "a" })),
        ("/v1/parked/discard", json!({ "reason": "why" })),
        ("/v1/parked/discard", json!({ "key": "a", "reason": "two\nlines" })),
    ] {
        let refused = client.post_to(path, &body).await?;
        ensure!(refused.status == StatusCode::BAD_REQUEST, "{body}: {refused:?}");
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_kafka_would_never_take_is_refused_before_it_is_recorded() -> Result<()> {
    let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
    let topic = format!("refused.{}", Uuid::new_v4().simple());
    let (notifications, missing) = (format!("{topic}.notifications"), format!("{topic}.missing"));
    let batch = Batch::number(1);
    let source = results_ready(&batch)["event_type"].as_str().unwrap_or_default().to_owned();
    kafka.create_topic(&topic, 1, &[("max.message.bytes", LOW)]).await?;
    kafka.create_topic(&source, 1, &[]).await?;
    kafka.create_topic(&notifications, 1, &[("max.message.bytes", "700")]).await?;
    let service = service(kafka, &database.url, &notifications).await?;
    let client = service.client();

    let large = event(&topic, "a", &long(LOW.parse()?));
    let refused = client.post(&large).await?;
    ensure!(refused.status == StatusCode::PAYLOAD_TOO_LARGE, "{refused:?}");
    ensure!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("max.message.bytes")), "{refused:?}");
    let unknown = event(&missing, "a", "small");
    let refused = client.post(&unknown).await?;
    ensure!(refused.status == StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    ensure!(refused.body["type"] == "urn:belfry:problem:unknown-topic", "{refused:?}");
    let lines = client.post_lines(format!("{large}\n{unknown}\n{}\n", event(&topic, "a", "small"))).await?;
    let statuses: Vec<&str> = lines.iter().filter_map(|line| line["status"].as_str()).collect();
    ensure!(statuses == ["too-large", "unknown-topic", "accepted"], "{lines:?}");
    for event in [&large, &unknown] {
        let id = event["event_id"].as_str().unwrap_or_default();
        ensure!(client.get(&format!("/v1/events/{id}")).await?.status == StatusCode::NOT_FOUND, "it is not recorded");
    }
    kafka.create_topic(&missing, 1, &[]).await?;
    let taken = async || Ok(client.post(&unknown).await?.status);
    eventually("the new topic is noticed", taken, |status| *status == StatusCode::CREATED).await?;

    let posted = client.post(&results_ready(&batch)).await?;
    ensure!(posted.body["dead_letters"][0]["cause"] == "output-limit", "{posted:?}");
    ensure!(posted.body["notifications"] == json!([]), "{posted:?}");
    service.stop().await;
    Ok(())
}
