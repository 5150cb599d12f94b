use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;

use super::super::cluster::Cluster;
use super::{Length, work};

const EVERY: Duration = Duration::from_millis(5);

pub(super) async fn down(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(1, 2) {
        work(random, 1000).await;
        cluster.stage.redis.kill().await?;
        tokio::time::sleep(Duration::from_secs(length.of(3, 10))).await;
        cluster.stage.redis.restart().await?;
        work(random, 1500).await;
        cluster.stage.redis.pause().await?;
        tokio::time::sleep(Duration::from_secs(length.of(2, 6))).await;
        cluster.stage.redis.resume()?;
    }
    work(random, 1000).await;
    Ok(())
}

pub(super) async fn flush(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let mut connection = ::redis::Client::open(cluster.stage.redis.url())?.get_multiplexed_async_connection().await?;
    for _ in 0..length.of(40, 150) {
        work(random, 50).await;
        ::redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
    }
    Ok(())
}

pub(super) async fn steal(cluster: &mut Cluster, length: Length, _: &mut Rng) -> Result<()> {
    let mut connection = ::redis::Client::open(cluster.stage.redis.url())?.get_multiplexed_async_connection().await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(length.of(3, 10));
    while tokio::time::Instant::now() < until {
        let lists: Vec<String> = ::redis::cmd("KEYS").arg("outbox:wake:*").query_async(&mut connection).await?;
        for list in lists {
            ::redis::cmd("DEL").arg(list).exec_async(&mut connection).await?;
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}
