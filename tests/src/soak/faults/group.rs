use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::cluster::Cluster;
use super::{Length, work};

/// Lets consumers of the same group join and leave. They commit nothing.
pub(super) async fn rebalance_storm(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(4, 12) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.stage.kafka.direct())
            .set("group.id", &cluster.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .create()?;
        consumer.subscribe(&[&cluster.input])?;
        let polls = random.u32(5..30);
        tokio::task::spawn_blocking(move || {
            for _ in 0..polls {
                let _ = consumer.poll(Duration::from_millis(50));
            }
        })
        .await?;
        work(random, 800).await;
    }
    Ok(())
}
