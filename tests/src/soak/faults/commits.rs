//! Transactions end in another order than they began: commits are delayed, and a fifth of the transactions is rolled
//! back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;

use super::super::cluster::Cluster;
use super::{Length, work};

/// In every replica, groups wait before and after they get their place in the order, and a fifth is rolled back.
const COMMITS: &str = "commit.before-lock=15%sleep(40)->30%sleep(8);\
                       commit.after-lock=10%sleep(10);\
                       commit.after-insert=10%sleep(25)->20%sleep(3);\
                       commit.rolled-back=20%return";
/// Percentage of the services' transactions that are rolled back.
const ROLLED_BACK: u32 = 20;
/// Number of services that submit concurrently.
const SERVICES: usize = 6;
/// Maximum time that one of their transactions stays open, in milliseconds.
const OPEN_MS: u64 = 120;

pub(super) async fn race(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    for replica in 0..cluster.size() {
        cluster.stop_replica(replica).await?;
        cluster.start_replica(replica, &[("FAILPOINTS", COMMITS.to_owned())]).await?;
    }
    let until = Instant::now() + Duration::from_secs(length.of(4, 20));
    let services = (0..SERVICES).map(|service| {
        let key = format!("{}-race-{service}-{}", cluster.group, random.u64(..));
        submit(cluster, key, random.fork(), until)
    });
    let counts = try_join_all(services.collect::<Vec<_>>()).await?;
    let rolled_back = cluster.logs().matches("a test rolls it back").count();
    ensure!(rolled_back > 0, "no group of Belfry's was rolled back");
    ensure!(counts.iter().all(|(committed, _)| *committed > 0), "{counts:?}");
    ensure!(counts.iter().any(|(_, rolled_back)| *rolled_back > 0), "{counts:?}");
    for replica in 0..cluster.size() {
        cluster.stop_replica(replica).await?;
        cluster.start_replica(replica, &[]).await?;
    }
    work(random, 500).await;
    Ok(())
}

/// Submits one event after the other as a service. Returns the numbers of committed and of rolled-back transactions.
async fn submit(cluster: &Cluster, key: String, mut random: Rng, until: Instant) -> Result<(u64, u64)> {
    let load = &cluster.load;
    let (mut committed, mut rolled_back) = (0, 0);
    while Instant::now() < until {
        let pause = Duration::from_millis(random.u64(..OPEN_MS));
        if random.u32(..100) < ROLLED_BACK {
            let mut event = load.event(&key, 0);
            event["event_id"] = uuid::Uuid::from_u128(random.u128(..)).to_string().into();
            load.forbid(&event)?;
            load.transaction(&key, &[event.to_string()], pause, false).await?;
            rolled_back += 1;
        } else {
            let event = load.event(&key, committed + 1);
            let event_id = load.promise(&event, committed + 1, true, true)?;
            load.transaction(&key, &[event.to_string()], pause, true).await?;
            load.ledger().acknowledge(event_id);
            committed += 1;
        }
    }
    Ok((committed, rolled_back))
}
