//! The cost of an idle replica on PostgreSQL, Kafka and Redis.

use std::time::Duration;

use anyhow::Result;
use belfry_tests::servers::{Kafka, Postgres, Redis};
use belfry_tests::{Batch, BelfryProcess, Client, results_ready};
use tempfile::TempDir;

use crate::figures::Figures;
use crate::footprint::resident_mb;

const WATCHED: Duration = Duration::from_secs(60);
/// Time until the effects of the start and of the last event are over.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[("log_statement", "all")]).await?;
    let kafka = Kafka::start(&directory.path().join("kafka")).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let (events, notifications) = ("huleedu.ras.batch.results.ready.v1", "huleedu.notification.teacher.requested.v1");
    for topic in [events, notifications, "huleedu.ras.batch.assessment.completed.v1"] {
        kafka.create_topic(topic, 4, &[]).await?;
    }
    let settings = [
        ("store.url", postgres.create_database().await?.url),
        ("kafka.brokers", kafka.bootstrap()),
        ("kafka.start_at", "earliest".to_owned()),
        ("redis.url", redis.url()),
        ("sink.kafka.enabled", "true".to_owned()),
    ];
    let service = BelfryProcess::start_with(directory.path(), &settings).await?;
    let client: Client = service.client();
    client.post(&results_ready(&Batch::number(1))).await?;
    tokio::time::sleep(SETTLE).await;
    let before = statements(&postgres)?;
    tokio::time::sleep(WATCHED).await;
    let (count, resident) = (statements(&postgres)? - before, resident_mb(&service)?);
    service.terminate().await?;
    figures.add("idle replica with PostgreSQL, Kafka and Redis", format!("{count} statements per minute"), "", "≤ 12");
    figures.add("its memory", format!("{resident:.1} MB resident"), "", "≤ 60 MB");
    Ok(())
}

/// Returns the number of statements that the server has received so far.
fn statements(postgres: &Postgres) -> Result<usize> {
    let log = std::fs::read_to_string(postgres.log())?;
    let of_belfry = |line: &&str| line.contains("belfry@") && line.contains("LOG:  ");
    Ok(log.lines().filter(of_belfry).filter(|line| line.contains("execute") || line.contains("statement:")).count())
}
