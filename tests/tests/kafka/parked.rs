//! Entries that Kafka rejects are parked by key or by topic, sent again in order, or discarded. Some events are rejected
//! before they are recorded.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_artifacts::programs::HOSTILE;
use belfry_tests::servers::{Kafka, shared_kafka, shared_postgres};
use belfry_tests::{Batch, Client, ServiceDatabase, TestService, belfry, eventually, results_ready};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// `max.message.bytes` of a topic after it is lowered.
pub(super) const LOW: &str = "4000";

pub(super) fn event(topic: &str, key: &str, text: &str) -> Value {
    json!({
        "event_id": Uuid::new_v4(),
        "event_type": topic,
        "event_timestamp": "2026-03-02T09:15:01Z",
        "source_service": "tests",
        "data": { "batch_id": key, "text": text }
    })
}

/// Returns a text of at least this number of bytes that does not compress well.
pub(super) fn long(bytes: usize) -> String {
    (0..bytes / 36 + 1).map(|_| Uuid::new_v4().to_string()).collect()
}

pub(super) async fn post(client: &Client, event: &Value) -> Result<String> {
    let posted = client.post(event).await?;
    ensure!(posted.status == StatusCode::CREATED, "{posted:?}");
    Ok(event["event_id"].as_str().unwrap_or_default().to_owned())
}

pub(super) async fn ids(kafka: &Kafka, topic: &str, key: &str) -> Result<Vec<String>> {
    let records = kafka.read_topic(topic).await?;
    let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    // Entries whose acknowledgement was not recorded when a session ended are sent again, so only first appearances count.
    let mut ids: Vec<String> = Vec::new();
    for id in of_key.filter_map(|record| record.header("event_id")) {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}

pub(super) async fn parked(client: &Client) -> Result<Vec<Value>> {
    let listed = client.get("/v1/parked").await?;
    Ok(listed.body["parked"].as_array().context("a list")?.clone())
}

pub(super) async fn service(kafka: &Kafka, store: &str, notifications: &str) -> Result<TestService> {
    let settings = [
        ("store.url", store),
        ("kafka.brokers", &kafka.bootstrap()),
        ("kafka.topics", "[]"),
        ("sink.kafka.enabled", "true"),
        ("notification.topic", notifications),
        // Events of all types, each published to its test's own topic.
        ("publish.topics", r#"["*"]"#),
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
    // Belfry's copy of the topic's settings is older, so it accepts an event that the broker will reject.
    let large = post(&client, &event(&topic, "a", &long(20_000))).await?;
    let behind = post(&client, &event(&topic, "a", "behind")).await?;
    let other = post(&client, &event(&topic, "b", "small")).await?;
    eventually("the other key's entry is sent", async || ids(kafka, &topic, "b").await, |ids| *ids == [other.clone()])
        .await?;
    let held = eventually("both are parked", async || parked(&client).await, |held| held.len() == 2).await?;
    ensure!(held.iter().all(|entry| entry["key"] == "a" && entry["sink"] == "kafka"), "{held:?}");
    ensure!(held[0]["error"].as_str().is_some_and(|error| error.contains("max.message.bytes")), "{held:?}");
    let sent = ids(kafka, &topic, "a").await?;
    ensure!(sent == [first.clone()], "of {first}, {large} and {behind}, these were sent: {sent:?}");
    let listed = belfry(&["--url", &url, "parked", "list", "--topic", &topic, "--key", "a"]).await?;
    ensure!(listed.stdout.contains("an entry of its key was refused before"), "{listed:?}");

    // Rejected again, it stays parked, and so do the entries behind it.
    let in_vain = belfry(&["--url", &url, "--output", "json", "parked", "unpark", "--key", "a"]).await?;
    ensure!(in_vain.json()? == [json!({ "entries": 2 })], "{in_vain:?}");
    let done = |held: &Vec<Value>| held.len() == 2 && held.iter().all(|entry| entry["request"].is_null());
    eventually("it is rejected again", async || parked(&client).await, done).await?;

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
    // Occasionally, Belfry has just refreshed its copy of the topic's settings, and rejects the event.
    if taken == StatusCode::CREATED {
        let held = eventually("both are parked", async || parked(&client).await, |held| held.len() == 2).await?;
        let position = held[0]["position"].to_string();
        let discarded =
            belfry(&["--url", &url, "parked", "discard", "--position", &position, "--reason", "a test"]).await?;
        ensure!(discarded.code == Some(0), "{discarded:?}");
    }
    eventually("its key is unblocked", async || ids(kafka, &topic, "c").await, |ids| *ids == [next.clone()]).await?;
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
    kafka.require_topic(&source, 4).await?;
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
        ensure!(client.get(&format!("/v1/events/{id}")).await?.status == StatusCode::NOT_FOUND, "it is recorded");
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

/// Returns the short text of `/readyz`.
async fn readiness(service: &TestService) -> Result<String> {
    Ok(reqwest::get(format!("{}/readyz", service.ops_url())).await?.error_for_status()?.text().await?)
}

#[tokio::test]
async fn what_a_service_submits_waits_for_its_topic_and_holds_up_no_other() -> Result<()> {
    let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
    let (store, source) = (postgres.create_database().await?, ServiceDatabase::create(postgres).await?);
    let there = format!("there.{}", Uuid::new_v4().simple());
    let missing = format!("{there}.missing");
    kafka.create_topic(&there, 2, &[]).await?;
    let (brokers, databases) = (kafka.bootstrap(), ServiceDatabase::setting(&[&source]));
    let notifications = format!("{there}.notifications");
    let settings = [
        ("preset", "testing"),
        ("store.url", store.url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("sink.kafka.enabled", "true"),
        ("source.postgres", databases.as_str()),
        ("notification.topic", notifications.as_str()),
    ];
    let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
    let client = service.client();
    let mut early = Vec::new();
    for number in 0..50 {
        early.push(
            source.submit(&event(&missing, ["a", "b"][number % 2], "early").to_string(), None).await?.to_string(),
        );
    }
    source.wait_until_read().await?;
    let held = eventually("all are parked", async || parked(&client).await, |held| held.len() == 50).await?;
    ensure!(held.iter().all(|entry| entry["scope"] == "topic" && entry["topic"] == missing.as_str()), "{held:?}");
    let mut log = PgConnection::connect(&store.url).await?;
    let letters: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.dead_letter").fetch_one(&mut log).await?;
    ensure!(letters == 0, "{letters} dead letters");
    let said =
        eventually("the readiness report shows it", async || readiness(&service).await, |said| said != "ok\n").await?;
    ensure!(said.starts_with("degraded: sink kafka holds back topic ") && said.contains(&missing), "{said}");
    let metrics = service.metrics().await?;
    ensure!(metrics.contains(r#"belfry_held_topics{sink="kafka"}"#), "{metrics}");

    let other = source.submit(&event(&there, "a", "other").to_string(), None).await?.to_string();
    eventually("other topics continue", async || ids(kafka, &there, "a").await, |ids| *ids == [other.clone()]).await?;
    // A restart loses none of the entries.
    let service = service.restart().await?;
    let client = service.client();
    kafka.create_topic(&missing, 2, &[]).await?;
    let of_a: Vec<String> = early.iter().step_by(2).cloned().collect();
    eventually("they arrive in order", async || ids(kafka, &missing, "a").await, |ids| *ids == of_a).await?;
    eventually("nothing is parked", async || parked(&client).await, Vec::is_empty).await?;
    eventually("the readiness report is ok", async || readiness(&service).await, |said| said == "ok\n").await?;
    let late = source.submit(&event(&missing, "b", "late").to_string(), None).await?.to_string();
    let of_b: Vec<String> = early.iter().skip(1).step_by(2).cloned().chain([late]).collect();
    eventually("later events arrive as well", async || ids(kafka, &missing, "b").await, |ids| *ids == of_b).await?;
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn entries_of_a_topic_that_is_never_made_can_be_discarded() -> Result<()> {
    let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
    let (store, source) = (postgres.create_database().await?, ServiceDatabase::create(postgres).await?);
    let missing = format!("never.{}", Uuid::new_v4().simple());
    let (brokers, databases) = (kafka.bootstrap(), ServiceDatabase::setting(&[&source]));
    let settings = [
        ("store.url", store.url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("sink.kafka.enabled", "true"),
        ("source.postgres", databases.as_str()),
    ];
    let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
    let client = service.client();
    for key in ["a", "b"] {
        source.submit(&event(&missing, key, "for nobody").to_string(), None).await?;
    }
    eventually("both are parked", async || parked(&client).await, |held| held.len() == 2).await?;
    let url = client.url().to_owned();
    let unparked = belfry(&["--url", &url, "parked", "unpark", "--topic", &missing]).await?;
    ensure!(unparked.code == Some(0), "{unparked:?}");
    let in_vain = |held: &Vec<Value>| held.len() == 2 && held.iter().all(|entry| entry["request"].is_null());
    eventually("they are still parked", async || parked(&client).await, in_vain).await?;
    let discarded =
        belfry(&["--url", &url, "parked", "discard", "--topic", &missing, "--reason", "a topic of nobody"]).await?;
    ensure!(discarded.code == Some(0), "{discarded:?}");
    eventually("they are gone", async || parked(&client).await, Vec::is_empty).await?;
    eventually("nothing is held back", async || readiness(&service).await, |said| said == "ok\n").await?;
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn only_chosen_types_are_published_and_all_are_recorded() -> Result<()> {
    let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
    let chosen = format!("chosen.{}", Uuid::new_v4().simple());
    let notifications = format!("{chosen}.notifications");
    for topic in [&chosen, &notifications] {
        kafka.create_topic(topic, 1, &[]).await?;
    }
    let (brokers, published) = (kafka.bootstrap(), format!("[\"{chosen}\", \"others.*\"]"));
    let settings = [
        ("store.url", database.url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("sink.kafka.enabled", "true"),
        ("notification.topic", notifications.as_str()),
        ("publish.topics", published.as_str()),
    ];
    let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
    let client = service.client();
    let posted = client.post(&event(&chosen, "a", "one")).await?;
    ensure!(posted.status == StatusCode::CREATED && posted.body["published"] == true, "{posted:?}");
    // Its topic need not exist.
    let unchosen = client.post(&event("nobody.chose.this.v1", "a", "two")).await?;
    ensure!(unchosen.status == StatusCode::CREATED && unchosen.body["published"] == false, "{unchosen:?}");
    let position = unchosen.body["position"].as_i64().context("a position")?;
    let mut log = PgConnection::connect(&database.url).await?;
    let topic: Option<String> =
        sqlx::query_scalar("SELECT topic FROM belfry.outbox WHERE id = $1").bind(position).fetch_one(&mut log).await?;
    ensure!(topic.is_none(), "{topic:?}");

    let long = "x".repeat(250);
    for refused in [notifications.as_str(), "a b", "a/b", "..", "größe", long.as_str()] {
        let posted = client.post(&event(refused, "a", "no")).await?;
        ensure!(posted.status == StatusCode::BAD_REQUEST && posted.body["pointer"] == "/event_type", "{posted:?}");
        ensure!(posted.body["type"] == "urn:belfry:problem:malformed-event", "{posted:?}");
        let lines = client.post_lines(event(refused, "a", "no").to_string()).await?;
        ensure!(lines[0]["status"] == "malformed", "{lines:?}");
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_releases_subscribe_to_is_published_unless_chosen_otherwise() -> Result<()> {
    let service = TestService::start_with(TEACHER_RESULTS, &[("sink.stdout.enabled", "false")]).await?;
    let subscribed = service.client().post(&results_ready(&Batch::number(1))).await?;
    ensure!(subscribed.body["published"] == true, "{subscribed:?}");
    let other = service.client().post(&event("acme.school.closed.v1", "a", "one")).await?;
    ensure!(other.body["published"] == false, "{other:?}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_entry_that_expires_in_the_log_shows_as_such() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let settings = [("store.url", database.url.as_str()), ("sink.stdout.enabled", "true")];
    let service = TestService::start_with(HOSTILE, &settings).await?;
    let client = service.client();
    client.push_and_activate(HOSTILE, &json!({ "behaviour": "expires-later" })).await?;
    // It expires between the commit and the relay.
    let mut log = PgConnection::connect(&database.url).await?;
    let expire = "CREATE FUNCTION expire() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN NEW.expires_at := now() - interval '1 s'; RETURN NEW; END $$; \
                  CREATE TRIGGER expire BEFORE INSERT ON belfry.outbox \
                    FOR EACH ROW WHEN (NEW.source_event_id IS NOT NULL) EXECUTE FUNCTION expire()";
    sqlx::raw_sql(expire).execute(&mut log).await?;
    let posted = client.post(&results_ready(&Batch::number(1))).await?;
    let id = posted.body["notifications"][0]["event_id"].as_str().context("a notification")?.to_owned();
    let url = client.url().to_owned();
    let explained = async || Ok(client.get(&format!("/v1/notifications/{id}")).await?.body);
    let expired = |body: &Value| body["deliveries"][0]["state"] == "expired";
    let body = eventually("it is shown as expired", explained, expired).await?;
    ensure!(body["deliveries"][0]["at"].is_string() && body["expires_at"].is_string(), "{body}");
    let explained = belfry(&["--url", &url, "explain", &id]).await?;
    ensure!(explained.stdout.contains("skipped as expired"), "{explained:?}");

    let mut feed = client.feed("from=beginning", None).await?;
    let shown = Client::collect(&mut feed, 1).await?;
    ensure!(shown[0].kind == "expired" && shown[0].data["event_id"] == id.as_str(), "{shown:?}");
    service.stop().await;
    Ok(())
}
