use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::super::cluster::Cluster;
use super::{Length, work};

/// Time limit for a client to commit.
const PATIENCE: Duration = Duration::from_secs(20);
/// Terminates the replicas' connections, which have this application name.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'belfry' AND pid <> pg_backend_pid()";

pub(super) async fn kill(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(2, 3) {
        work(random, 1500).await;
        cluster.stage.postgres.kill().await?;
        work(random, 1000).await;
        cluster.stage.postgres.restart().await?;
    }
    work(random, 1500).await;
    Ok(())
}

pub(super) async fn restart(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(2, 3) {
        work(random, 1500).await;
        cluster.stage.postgres.restart().await?;
    }
    work(random, 1500).await;
    Ok(())
}

pub(super) async fn terminate_backends(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(15, 25) {
        work(random, 400).await;
        cluster.stage.postgres.execute(TERMINATE).await?;
    }
    Ok(())
}

pub(super) async fn pool_exhausted(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    work(random, 1000).await;
    let mut taken: Vec<PgConnection> = vec![cluster.connect().await?];
    let began = Instant::now();
    let until = Duration::from_secs(length.of(4, 10));
    while began.elapsed() < until {
        // Every connection that becomes free is taken.
        match cluster.connect().await {
            Ok(connection) => taken.push(connection),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        if random.u32(0..50) == 0 {
            sqlx::query(TERMINATE).execute(&mut taken[0]).await?;
        }
    }
    for connection in taken {
        connection.close().await?;
    }
    work(random, 1500).await;
    Ok(())
}

pub(super) async fn commit_answer_lost(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let proxy = &cluster.stage.postgres_proxy;
    for _ in 0..length.of(8, 15) {
        work(random, 300).await;
        let before = proxy.tripped();
        proxy.cut_before_answer_with(b"COMMIT", b"COMMIT");
        proxy.wait_until_tripped(before + 1, PATIENCE).await?;
    }
    Ok(())
}

pub(super) async fn silent(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(1, 2) {
        work(random, 1500).await;
        cluster.stage.postgres_proxy.silence();
        // Long enough for the connections to be abandoned.
        tokio::time::sleep(Duration::from_secs(12)).await;
    }
    work(random, 1500).await;
    Ok(())
}
