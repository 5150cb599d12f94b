use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;

use super::super::cluster::Cluster;
use super::{Length, work};
use crate::servers::Direction;

/// Time limit for sending the number of bytes after which a connection is reset.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a relay waits for an acknowledgement.
const PAST_STALL: Duration = Duration::from_millis(4500);

pub(super) async fn stop(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    work(random, 1000).await;
    cluster.stage.kafka.stop().await?;
    tokio::time::sleep(Duration::from_secs(length.of(8, 60))).await;
    cluster.stage.kafka.restart().await?;
    work(random, 1000).await;
    Ok(())
}

pub(super) async fn kill(cluster: &mut Cluster, _: Length, random: &mut Rng) -> Result<()> {
    work(random, 1500).await;
    cluster.stage.kafka.kill().await?;
    work(random, 1500).await;
    cluster.stage.kafka.restart().await?;
    work(random, 1500).await;
    Ok(())
}

pub(super) async fn slow(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(1, 2) {
        cluster.stage.kafka_proxy.delay(Duration::from_millis(random.u64(50..800)));
        work(random, 4000).await;
        cluster.stage.kafka_proxy.heal().await?;
        cluster.stage.kafka.pause().await?;
        tokio::time::sleep(PAST_STALL).await;
        cluster.stage.kafka.resume()?;
        work(random, 2000).await;
        // Past the stall timeout, but connected: sent records still arrive.
        cluster.stage.kafka_proxy.hang();
        tokio::time::sleep(PAST_STALL).await;
        cluster.stage.kafka_proxy.heal().await?;
        work(random, 1000).await;
    }
    Ok(())
}

pub(super) async fn reset(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let proxy = &cluster.stage.kafka_proxy;
    for _ in 0..length.of(10, 20) {
        let direction = if random.bool() { Direction::ToServer } else { Direction::ToClient };
        let bytes = random.usize(1..direction_bytes(direction));
        let before = proxy.tripped();
        proxy.reset_after(direction, bytes);
        proxy.wait_until_tripped(before + 1, PATIENCE).await?;
    }
    Ok(())
}

/// Returns the range for the number of bytes. Responses are short.
fn direction_bytes(direction: Direction) -> usize {
    match direction {
        Direction::ToServer => 100_000,
        Direction::ToClient => 2_000,
    }
}
