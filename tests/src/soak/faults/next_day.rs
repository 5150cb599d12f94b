//! A producer sends an event again a day later, with a new time, and another replica receives it: only the id counts,
//! not the time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

use super::super::arrivals::Way;
use super::super::cluster::Cluster;
use super::{Length, work};

/// Time limit for a record to be read.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn next_day(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(3, 10) {
        for (before, after) in [(Way::Http, Way::Http), (Way::Http, Way::Kafka), (Way::Kafka, Way::Http)] {
            again(cluster, before, after, random).await?;
        }
        work(random, 300).await;
    }
    Ok(())
}

async fn again(cluster: &Cluster, before: Way, after: Way, random: &mut Rng) -> Result<()> {
    let load = &cluster.load;
    let key = format!("{}-day-{}", cluster.group, random.u64(..));
    let event = load.event(&key, 1);
    let event_id = load.promise(&event, 1, before == Way::Http, true)?;
    let replica = random.usize(..cluster.size());
    let first = deliver(cluster, before, &key, replica, &event).await?;
    ensure!(first.is_none_or(|status| status == "accepted"), "{event_id} was not new");
    load.ledger().acknowledge(event_id);
    a_day_passes(cluster, event_id).await?;

    let mut late = event.clone();
    late["event_timestamp"] = "2026-03-03T09:15:01Z".into();
    late["data"]["timestamp"] = "2026-03-03T09:15:01Z".into();
    late["data"]["system_metadata"] = serde_json::json!({ "attempt": 2 });
    // Two other replicas receive it at the same time.
    let others = [(replica + 1) % cluster.size(), (replica + 2) % cluster.size()];
    let (one, another) = tokio::try_join!(
        deliver(cluster, after, &key, others[0], &late),
        deliver(cluster, after, &key, others[1], &late),
    )?;
    for status in [one, another].into_iter().flatten() {
        ensure!(status == "duplicate", "{event_id} came again a day later, and was {status}");
    }
    let mut connection = cluster.connect().await?;
    let count = "SELECT (SELECT count(*) FROM belfry.outbox WHERE $1 IN (event_id, source_event_id)) + \
                 1000 * (SELECT count(*) FROM belfry.dead_letter WHERE event_id = $1)";
    let rows: i64 = sqlx::query_scalar(count).bind(event_id).fetch_one(&mut connection).await?;
    ensure!(rows == 2, "{event_id} came again a day later, and the database has {rows} rows of it, not 2");
    Ok(())
}

/// Moves everything recorded about an event back by one day.
async fn a_day_passes(cluster: &Cluster, event_id: Uuid) -> Result<()> {
    let mut connection = cluster.connect().await?;
    for statement in [
        "UPDATE belfry.inbox SET received_at = received_at - interval '1 day' WHERE event_id = $1",
        "UPDATE belfry.issued SET received_at = received_at - interval '1 day' WHERE notification_id IN \
         (SELECT event_id FROM belfry.outbox WHERE source_event_id = $1)",
        "UPDATE belfry.outbox SET created_at = created_at - interval '1 day' WHERE $1 IN (event_id, source_event_id)",
    ] {
        let aged = sqlx::query(statement).bind(event_id).execute(&mut connection).await?.rows_affected();
        ensure!(aged > 0, "nothing is recorded of {event_id}: {statement}");
    }
    Ok(())
}

/// Sends an event until it is accepted. Returns the status in the response, if there is one.
async fn deliver(cluster: &Cluster, way: Way, key: &str, replica: usize, event: &Value) -> Result<Option<String>> {
    if way == Way::Http {
        let posted = cluster.replica(replica).client()?.post(event).await?;
        ensure!(posted.status.is_success(), "{posted:?}");
        return Ok(Some(posted.body["status"].as_str().context("a status")?.to_owned()));
    }
    let places = cluster.load.produce(key, &[event.to_string()]).await?;
    let (partition, offset) = *places.first().context("a place")?;
    let began = Instant::now();
    let mut connection = cluster.connect().await?;
    loop {
        let read: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM belfry.consumer_position WHERE topic = $1 AND partition = $2 AND next_offset > $3)",
        )
        .bind(&cluster.input)
        .bind(partition)
        .bind(offset)
        .fetch_one(&mut connection)
        .await?;
        if read {
            return Ok(None);
        }
        ensure!(began.elapsed() < PATIENCE, "{partition}/{offset} was not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
