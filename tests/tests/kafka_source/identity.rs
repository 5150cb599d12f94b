//! Producers that assign another `event_id` at each attempt. `kafka.identity` selects what identifies an event instead.

use anyhow::{Context, Result, ensure};
use belfry_tests::{Batch, BelfryProcess, minted_anew, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::setup::{Setup, metric, until};

/// More records than Belfry reads at once.
const MANY: i64 = 300;
const WINDOW_SECONDS: i64 = 3600;
/// The start of a window, in milliseconds since the epoch.
const WINDOW_MS: i64 = 490_000 * WINDOW_SECONDS * 1000;

/// Returns a new attempt to send the event with this number.
fn attempt(number: u64) -> Value {
    minted_anew(results_ready(&Batch::number(number)))
}

async fn produce(setup: &Setup, header: Option<Uuid>, event: &Value, written_ms: Option<i64>) -> Result<()> {
    let header = header.map(|id| id.to_string());
    let headers: Vec<(&str, &[u8])> = header.iter().map(|id| ("event_id", id.as_bytes())).collect();
    let key = event["data"]["batch_id"].as_str().map(str::as_bytes);
    let payload = event.to_string();
    setup.kafka.produce_at(&setup.topic, key, &headers, Some(payload.as_bytes()), written_ms).await?;
    Ok(())
}

async fn start(setup: &Setup, identity: &str) -> Result<BelfryProcess> {
    let chosen = format!("{{\"{}\"=\"{identity}\"}}", setup.topic);
    let window = WINDOW_SECONDS.to_string();
    let settings = [("kafka.identity", chosen.as_str()), ("kafka.identity_window_seconds", &window)];
    setup.start_with(&settings).await
}

/// Returns the ids of the recorded events, in the order of the log. Checks that each has one notification that names it.
async fn recorded(setup: &Setup) -> Result<Vec<Uuid>> {
    let named = "convert_from(payload, 'UTF8')::json -> 'metadata' -> 'belfry' ->> 'source_event_id'";
    let sources = format!("SELECT ({named})::uuid FROM belfry.outbox WHERE source_event_id IS NOT NULL ORDER BY id");
    let sources: Vec<Uuid> = setup.query(&sources).await?;
    let events = "SELECT event_id FROM belfry.outbox WHERE source_event_id IS NULL ORDER BY id";
    let events: Vec<Uuid> = setup.query(events).await?;
    ensure!(sources == events, "notifications name {sources:?}, recorded are {events:?}");
    Ok(events)
}

#[tokio::test]
async fn the_header_identifies_an_event_whose_envelope_is_made_anew() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = start(&setup, "header").await?;
    let ids: Vec<Uuid> = (0..10).map(|_| Uuid::new_v4()).collect();
    for round in 0..3 {
        for (number, id) in (0..).zip(&ids) {
            produce(&setup, Some(*id), &attempt(number), None).await?;
        }
        if round == 0 {
            setup.all_is_read().await?;
        }
    }
    produce(&setup, None, &attempt(99), None).await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await? == ids, "each event is recorded once");
    let letters: Vec<String> = setup.query("SELECT cause || ' ' || detail FROM belfry.dead_letter").await?;
    ensure!(letters.len() == 1 && letters[0].contains("the header event_id is missing"), "{letters:?}");

    // Everything that reads the log again uses the same ids.
    let client = belfry.client();
    let event = client.get(&format!("/v1/events/{}", ids[0])).await?;
    let notification = event.body["notifications"][0]["event_id"].as_str().context("no notification")?;
    let cause = client.get(&format!("/v1/notifications/{notification}")).await?;
    ensure!(cause.body["cause"]["event_id"] == ids[0].to_string(), "{cause:?}");
    let again = client.post_to(&format!("/v1/events/{}/rerun", ids[0]), &json!({})).await?;
    ensure!(again.status == 200 && again.body["reruns"][0]["same"] == true, "{again:?}");
    let replay = ["--url", client.url(), "--output", "json", "replay", "teacher-results", "--candidate", "1"];
    let replay = belfry_tests::belfry(&replay).await?.json()?.pop().context("no report")?;
    ensure!(replay["notifications"]["same"] == 10 && replay["notifications"]["changed"] == 0, "{replay}");
    belfry.terminate().await
}

#[tokio::test]
async fn the_envelope_identifies_an_event_whatever_its_header_says() -> Result<()> {
    let setup = Setup::new(1).await?;
    let event = attempt(1);
    for header in [Uuid::new_v4(), Uuid::new_v4()] {
        produce(&setup, Some(header), &event, None).await?;
    }
    let belfry = start(&setup, "envelope").await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await? == [event["event_id"].as_str().context("no id")?.parse::<Uuid>()?]);
    ensure!(setup.count("belfry.dead_letter").await? == 0);
    belfry.terminate().await
}

#[tokio::test]
async fn content_identifies_an_event_within_a_window_also_across_its_end_and_a_restart() -> Result<()> {
    let setup = Setup::new(1).await?;
    let window = WINDOW_SECONDS * 1000;
    let last = WINDOW_MS + window - 1;
    // Times within a window, across its end, and going back. More records than are read at once, so that some are not yet
    // committed when others are read.
    for _ in 0..MANY {
        produce(&setup, Some(Uuid::new_v4()), &attempt(1), Some(last)).await?;
    }
    for number in 0..MANY {
        produce(&setup, None, &attempt(1), Some(last + 1 - number % 2)).await?;
    }
    produce(&setup, None, &attempt(2), Some(last)).await?;
    let belfry = start(&setup, "content").await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await?.len() == 2, "{:?}", recorded(&setup).await?);
    ensure!(
        metric(&belfry, "belfry_events_total{source=\"kafka\",outcome=\"duplicate\"}").await? == (2 * MANY - 1) as f64
    );
    belfry.terminate().await?;

    let belfry = start(&setup, "content").await?;
    produce(&setup, None, &attempt(1), Some(last + window)).await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await?.len() == 2, "an attempt in the next window is a duplicate");
    // In the window after the next, it is another event. So is different content.
    produce(&setup, None, &attempt(1), Some(last + window + 1)).await?;
    let mut other = attempt(2);
    other["data"]["overall_status"] = json!("completed_with_failures");
    produce(&setup, None, &other, Some(last)).await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await?.len() == 4, "{:?}", recorded(&setup).await?);
    ensure!(setup.count("belfry.dead_letter").await? == 0);
    belfry.terminate().await
}

/// An event that Belfry published itself is identified by its envelope's id when Belfry reads it back.
#[tokio::test]
async fn an_event_of_belfrys_own_is_known_although_its_topic_is_read_by_content() -> Result<()> {
    let setup = Setup::new(1).await?;
    let identity = format!("{{\"{}\"=\"content\"}}", setup.topic);
    let settings = [
        ("kafka.identity", identity.as_str()),
        ("sink.kafka.enabled", "true"),
        ("publish.topics", "[\"*\"]"),
        ("notification.topic", "notifications.of.this.test"),
    ];
    let belfry = setup.start_with(&settings).await?;
    let mut event = attempt(1);
    event["event_type"] = setup.topic.as_str().into();
    ensure!(belfry.client().post(&event).await?.status == 201);
    until("the event is on its topic", async || Ok(setup.watermarks().await?[0].1 == 1)).await?;
    setup.all_is_read().await?;
    ensure!(setup.count("belfry.outbox WHERE source_event_id IS NULL").await? == 1, "the event is recorded once");
    belfry.terminate().await
}

#[tokio::test]
async fn without_a_choice_a_header_that_differs_is_refused() -> Result<()> {
    let setup = Setup::new(1).await?;
    produce(&setup, Some(Uuid::new_v4()), &attempt(1), None).await?;
    produce(&setup, None, &attempt(2), None).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    ensure!(recorded(&setup).await?.len() == 1);
    let letters: Vec<String> = setup.query("SELECT detail FROM belfry.dead_letter").await?;
    ensure!(letters.len() == 1 && letters[0].contains("kafka.identity"), "{letters:?}");
    belfry.terminate().await
}
