//! Third-party consumers, as their registries distribute them, read the notifications.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{shared_kafka, shared_postgres};
use belfry_tests::{Batch, TestService, results_ready};
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

/// Exit code of the script if a consumer cannot be installed.
const NOT_TO_BE_HAD: i32 = 77;

#[tokio::test]
async fn stock_clients_read_our_notifications_with_nothing_installed_beside_them() -> Result<()> {
    let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
    let topic = format!("notifications-{}", Uuid::new_v4());
    kafka.create_topic(&topic, 2, &[]).await?;
    let (url, brokers) = (postgres.create_database().await?.url, kafka.bootstrap());
    kafka.require_topic("huleedu.ras.batch.results.ready.v1", 4).await?;
    let settings = [
        ("preset", "testing"),
        ("store.url", url.as_str()),
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", "[]"),
        ("notification.topic", topic.as_str()),
        ("sink.kafka.enabled", "true"),
    ];
    let service = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &settings).await?;
    let mut sent = BTreeSet::new();
    for number in 0..40 {
        let posted = service.client().post(&results_ready(&Batch::number(number))).await?;
        sent.insert(posted.body["notifications"][0]["event_id"].as_str().context("no notification")?.to_owned());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign-consumers.sh");
    let read = Command::new(script).args([&brokers, &topic, "40"]).output().await?;
    let said = String::from_utf8_lossy(&read.stderr);
    if read.status.code() == Some(NOT_TO_BE_HAD) {
        eprintln!("skipped: {said}");
        return Ok(());
    }
    ensure!(read.status.success(), "{:?}: {said}", read.status);
    for client in ["aiokafka", "kcat"] {
        let mut met = BTreeSet::new();
        for line in String::from_utf8(read.stdout.clone())?.lines() {
            let record: Value = serde_json::from_str(line)?;
            if record["client"] == client {
                ensure!(record["event_id"] == record["header"], "{record}");
                met.insert(record["event_id"].as_str().context("no id")?.to_owned());
            }
        }
        ensure!(met == sent, "{client} has read {} of {}", met.len(), sent.len());
    }
    service.stop().await;
    Ok(())
}
