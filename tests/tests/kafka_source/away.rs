//! Belfry while Kafka is down.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Kafka, ProcessId, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use tempfile::TempDir;

use crate::setup::until;

const WATCHED: Duration = Duration::from_secs(8);

/// Checking for recreated topics must not keep processors busy while no broker responds.
#[tokio::test]
async fn a_replica_without_a_broker_is_at_rest() -> Result<()> {
    let directory = TempDir::new()?;
    let kafka = Kafka::start(&directory.path().join("kafka")).await?;
    kafka.create_topic("events.v1", 2, &[]).await?;
    let settings = [
        ("store.url", shared_postgres().await?.create_database().await?.url),
        ("kafka.brokers", kafka.bootstrap()),
        ("kafka.topics", "[\"events.v1\"]".to_owned()),
        ("kafka.start_at", "earliest".to_owned()),
        ("sink.kafka.enabled", "true".to_owned()),
    ];
    let belfry = BelfryProcess::start_with(directory.path(), &settings).await?;
    let process = ProcessId::of(belfry.pid().context("belfry is not running")?)?;
    let event = results_ready(&Batch::number(1));
    kafka.produce("events.v1", None, &[], Some(event.to_string().as_bytes())).await?;
    let path = format!("/v1/events/{}", Batch::number(1).event_id);
    until("the topic is read", async || Ok(belfry.client().get(&path).await?.status == 200)).await?;
    kafka.kill().await?;
    // Longer than the interval between two checks.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before = process.processor_time()?;
    tokio::time::sleep(WATCHED).await;
    let used = process.processor_time()? - before;
    ensure!(used < WATCHED / 5, "{used:?} of processor time in {WATCHED:?}");
    ensure!(belfry.client().get(&path).await?.status == 200, "the API must still respond");
    drop(belfry);
    Ok(())
}
