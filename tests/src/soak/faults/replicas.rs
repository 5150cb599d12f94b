use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;

use super::super::cluster::Cluster;
use super::{Length, work};
use crate::servers::Signal;

/// Longer than a lease.
const PAST_LEASE: Duration = Duration::from_millis(15_500);
/// Time limit for a replica to reach the fail point at which it crashes.
const PATIENCE: Duration = Duration::from_secs(60);

const WITHOUT_FAIL_POINTS: &str = "if belfry was built without fail points, `make soak` builds it with them";

/// Fail points of a replica that accepts events.
const WRITER: &[&str] =
    &["commit.before-lock", "commit.after-lock", "commit.after-insert", "commit.after-commit", "commit.after-wake"];
/// Fail points of a replica that reads a topic.
const SOURCE: &[&str] = &["source.before-offset-commit", "source.after-offset-commit"];
/// Fail points of the holder of the lease.
const RELAY: &[&str] =
    &["relay.after-produce", "relay.after-acknowledgement", "relay.before-checkpoint", "relay.after-checkpoint"];

pub(super) async fn kill(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    work(random, 500).await;
    for kill in 0..length.of(3, 3) {
        let victim = if kill == 0 { cluster.holder().await? } else { random.usize(..cluster.size()) };
        cluster.kill_replica(victim).await?;
        work(random, 500).await;
        cluster.start_replica(victim, &[]).await?;
        work(random, 1500).await;
    }
    Ok(())
}

pub(super) async fn kill_at_fail_points(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for point in WRITER.iter().chain(SOURCE) {
        let victim = random.usize(..cluster.size());
        cluster.kill_replica(victim).await?;
        // A topic's offsets are committed rarely.
        let passes = if SOURCE.contains(point) { 0 } else { random.u32(0..8) };
        cluster.start_replica(victim, &[die_at(point, passes)]).await?;
        cluster
            .wait_until_dead(victim, PATIENCE)
            .await
            .with_context(|| format!("{point} did not end the replica; {WITHOUT_FAIL_POINTS}"))?;
        cluster.start_replica(victim, &[]).await?;
    }
    for point in RELAY {
        // All replicas but the holder crash there, one after the other. The test does not wait for a crashed holder's
        // lease to end.
        let holder = cluster.holder().await?;
        let heirs: Vec<usize> =
            (0..cluster.size()).filter(|replica| *replica != holder).take(length.of(1, 2)).collect();
        for other in (0..cluster.size()).filter(|replica| *replica != holder) {
            cluster.kill_replica(other).await?;
        }
        for heir in &heirs {
            let passes = random.u32(0..20);
            cluster.start_replica(*heir, &[die_at(point, passes)]).await?;
        }
        cluster.kill_replica(holder).await?;
        for _ in 0..heirs.len() {
            cluster.age_lease().await?;
            let dead = cluster.wait_until_any_dead(&heirs, PATIENCE).await;
            dead.with_context(|| format!("{point} did not end the replica; {WITHOUT_FAIL_POINTS}"))?;
        }
        cluster.start_all().await?;
        cluster.age_lease().await?;
        work(random, 500).await;
    }
    Ok(())
}

/// Returns the setting that crashes a replica at this fail point after `passes` passes.
fn die_at(point: &str, passes: u32) -> (&'static str, String) {
    ("FAILPOINTS", if passes == 0 { format!("{point}=return") } else { format!("{point}={passes}*off->return") })
}

pub(super) async fn stop_holder(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for _ in 0..length.of(1, 1) {
        work(random, 700).await;
        let holder = cluster.replica(cluster.holder().await?).id()?;
        holder.stop_running().await?;
        tokio::time::sleep(PAST_LEASE).await;
        work(random, 2000).await;
        holder.signal(Signal::Continue)?;
        work(random, 2000).await;
    }
    Ok(())
}

pub(super) async fn restart(cluster: &mut Cluster, _: Length, random: &mut Rng) -> Result<()> {
    for replica in 0..cluster.size() {
        cluster.stop_replica(replica).await?;
        cluster.start_replica(replica, &[]).await?;
        work(random, 500).await;
    }
    Ok(())
}
