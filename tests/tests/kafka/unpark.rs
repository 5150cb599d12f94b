//! What becomes of a parked entry that an operator unparks.

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Kafka, shared_kafka, shared_postgres};
use belfry_tests::{TestService, belfry, eventually};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::parked::{LOW, event, ids, long, parked, post, service};

/// A service with one parked entry, and the id of the entry's event.
struct OneParked {
    service: TestService,
    kafka: &'static Kafka,
    topic: String,
    log: PgConnection,
    id: String,
    position: i64,
}

impl OneParked {
    async fn new(kind: &str) -> Result<Self> {
        let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
        let topic = format!("{kind}.{}", Uuid::new_v4().simple());
        kafka.create_topic(&topic, 1, &[]).await?;
        let service = service(kafka, &database.url, &format!("{topic}.notifications")).await?;
        let client = service.client();
        let first = post(&client, &event(&topic, "a", "small")).await?;
        eventually("the first is sent", async || ids(kafka, &topic, "a").await, |ids| *ids == [first.clone()]).await?;
        kafka.set_topic(&topic, &[("max.message.bytes", LOW)]).await?;
        let id = post(&client, &event(&topic, "a", &long(20_000))).await?;
        let held = eventually("it is parked", async || parked(&client).await, |held| held.len() == 1).await?;
        let position = held[0]["position"].as_i64().context("a position")?;
        kafka.set_topic(&topic, &[("max.message.bytes", "1000000")]).await?;
        Ok(Self { service, kafka, topic, log: PgConnection::connect(&database.url).await?, id, position })
    }

    async fn unpark(&self) -> Result<()> {
        let asked = self.service.client().post_to("/v1/parked/unpark", &json!({ "position": self.position })).await?;
        ensure!(asked.body["entries"] == 1, "{asked:?}");
        Ok(())
    }

    async fn is_sent(&self) -> Result<bool> {
        Ok(ids(self.kafka, &self.topic, "a").await?.contains(&self.id))
    }

    /// Returns `Some(None)` if the entry is recorded as sent, `Some` with the reason if it is recorded as withheld, and
    /// `None` if nothing is recorded.
    async fn noted(&mut self) -> Result<Option<Option<String>>> {
        Ok(sqlx::query_scalar("SELECT withheld FROM belfry.unparked WHERE sink = 'kafka' AND id = $1")
            .bind(self.position)
            .fetch_optional(&mut self.log)
            .await?)
    }
}

#[tokio::test]
async fn a_parked_entry_outlives_its_row_in_the_log() -> Result<()> {
    let mut one = OneParked::new("outlives").await?;
    // Like retention after log_days, which drops whole ranges.
    sqlx::query("DELETE FROM belfry.outbox").execute(&mut one.log).await?;
    one.unpark().await?;
    eventually("it is sent", async || one.is_sent().await, |sent| *sent).await?;
    eventually("it is no longer parked", async || parked(&one.service.client()).await, Vec::is_empty).await?;
    ensure!(one.noted().await? == Some(None), "it is not recorded as sent");
    one.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_parked_entry_without_content_is_not_claimed_to_be_sent() -> Result<()> {
    let mut one = OneParked::new("lost").await?;
    // Like an entry that an earlier version parked, and that was then retired.
    sqlx::raw_sql("UPDATE belfry.parked SET payload = NULL; DELETE FROM belfry.outbox").execute(&mut one.log).await?;
    one.unpark().await?;
    let client = one.service.client();
    let refused = |held: &Vec<Value>| held.len() == 1 && held[0]["request"].is_null();
    let held = eventually("it stays parked", async || parked(&client).await, refused).await?;
    ensure!(held[0]["error"].as_str().is_some_and(|error| error.contains("discard it")), "{held:?}");
    ensure!(one.noted().await?.is_none() && !one.is_sent().await?, "it is recorded as sent, or was sent");
    one.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_parked_entry_that_has_expired_is_withheld() -> Result<()> {
    let mut one = OneParked::new("expired").await?;
    sqlx::query("UPDATE belfry.parked SET expires_at = now() - interval '1 s'").execute(&mut one.log).await?;
    one.unpark().await?;
    eventually("it is no longer parked", async || parked(&one.service.client()).await, Vec::is_empty).await?;
    ensure!(one.noted().await? == Some(Some("expired".to_owned())), "it is not recorded as expired");
    let next = post(&one.service.client(), &event(&one.topic, "a", "next")).await?;
    let seen = async || ids(one.kafka, &one.topic, "a").await;
    eventually("its key is unblocked", seen, |ids| ids.last() == Some(&next)).await?;
    ensure!(!one.is_sent().await?, "it was sent after it expired");
    one.service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_paused_sink_unparks_nothing() -> Result<()> {
    let one = OneParked::new("paused").await?;
    let (client, url) = (one.service.client(), one.service.client().url().to_owned());
    let paused = belfry(&["--url", &url, "pause", "sink", "kafka", "--reason", "a test"]).await?;
    ensure!(paused.code == Some(0), "{paused:?}");
    // Time for the relay to see the pause.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    one.unpark().await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let held = parked(&client).await?;
    ensure!(held.len() == 1 && held[0]["request"] == "unpark" && !one.is_sent().await?, "{held:?}");
    let goes_on = belfry(&["--url", &url, "pause", "end", "sink", "kafka"]).await?;
    ensure!(goes_on.code == Some(0), "{goes_on:?}");
    eventually("it is sent", async || one.is_sent().await, |sent| *sent).await?;
    one.service.stop().await;
    Ok(())
}
