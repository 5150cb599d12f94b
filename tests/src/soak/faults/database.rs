use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use sqlx::Connection;

use super::super::cluster::Cluster;
use super::{Length, work};

/// Time limit for a commit.
const LONGEST_COMMIT: Duration = Duration::from_secs(1);
/// Minimum throughput after the fault, relative to the throughput before it.
const STEADY: f64 = 0.9;
/// Interval at which retirement of the log's oldest range is attempted.
const RETIRE_EVERY: Duration = Duration::from_millis(200);

/// Keeps a transaction with a snapshot open.
pub(super) async fn open_snapshot(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let before = throughput(cluster, length).await;
    let slowest_before = cluster.load.take_slowest();
    let mut connection = cluster.connect().await?;
    let mut snapshot = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    sqlx::query("SELECT count(*) FROM belfry.outbox").execute(&mut *snapshot).await?;
    tokio::time::sleep(Duration::from_secs(length.of(10, 90))).await;
    let during = throughput(cluster, length).await;
    snapshot.rollback().await?;
    eprintln!("{during:.0} events per second while the transaction was open");
    work(random, 500).await;
    let after = throughput_again(cluster, length, before).await;
    steady(cluster, length, slowest_before, [before, after])
}

/// Holds the lock that `pg_dump` holds while the log's oldest range is due for retirement, and then runs `pg_dump`
/// itself.
pub(super) async fn dump_while_retiring(cluster: &mut Cluster, length: Length, _: &mut Rng) -> Result<()> {
    let before = throughput(cluster, length).await;
    let slowest_before = cluster.load.take_slowest();
    let mut connection = cluster.connect().await?;
    let mut dump = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    sqlx::query("LOCK TABLE belfry.outbox IN ACCESS SHARE MODE").execute(&mut *dump).await?;
    let until = Instant::now() + Duration::from_secs(length.of(6, 60));
    while Instant::now() < until {
        retire(cluster).await?;
    }
    dump.rollback().await?;
    let (dumped, retired) = tokio::join!(dumped_in_the_end(cluster), async {
        for _ in 0..length.of(5, 20) {
            retire(cluster).await?;
        }
        anyhow::Ok(())
    });
    dumped?;
    retired?;
    let after = throughput_again(cluster, length, before).await;
    steady(cluster, length, slowest_before, [before, after])
}

/// Dumps the database, with retries. A range may be retired after the dump has read the catalog and before it locks the
/// range: then `pg_dump` fails at once, and the next attempt no longer sees the range.
async fn dumped_in_the_end(cluster: &Cluster) -> Result<()> {
    for _ in 0..20 {
        match cluster.stage.postgres.dump(&cluster.database.url).await {
            Err(error) if format!("{error:#}").contains("does not exist") => continue,
            dumped => return dumped,
        }
    }
    bail!("a range was retired at the start of each of twenty dumps")
}

async fn retire(cluster: &Cluster) -> Result<()> {
    let statement =
        "SELECT belfry.retire_log((SELECT min(position) FROM belfry.relay WHERE sink = 'kafka'), clock_timestamp())";
    cluster.execute(statement).await?;
    tokio::time::sleep(RETIRE_EVERY).await;
    Ok(())
}

/// Returns the number of events acknowledged per second.
async fn throughput(cluster: &Cluster, length: Length) -> f64 {
    let span = Duration::from_secs(length.of(2, 20));
    let before = cluster.load.acknowledged();
    tokio::time::sleep(span).await;
    (cluster.load.acknowledged() - before) as f64 / span.as_secs_f64()
}

/// Returns the throughput after recovery, the best of up to three spans: a single span may be slow for unrelated
/// reasons.
async fn throughput_again(cluster: &Cluster, length: Length, before: f64) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        best = best.max(throughput(cluster, length).await);
        if best >= before * STEADY {
            break;
        }
    }
    best
}

/// Checks the slowest response and the throughput. Short rounds run alongside other tests, so their times are not
/// meaningful.
fn steady(cluster: &Cluster, length: Length, slowest_before: Duration, [before, after]: [f64; 2]) -> Result<()> {
    let slowest = cluster.load.take_slowest();
    eprintln!(
        "{before:.0} events per second before, slowest response {slowest_before:?}; {after:.0} after, slowest since then \
         {slowest:?}"
    );
    if length == Length::Long {
        ensure!(slowest <= LONGEST_COMMIT, "a commit waited for {slowest:?}");
        ensure!(after >= before * STEADY, "{before:.0} events per second before, {after:.0} after");
    }
    Ok(())
}
