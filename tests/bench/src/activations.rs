//! Two releases of a rule that alternate a thousand times while three replicas on PostgreSQL accept events; compared
//! with the same load without changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use belfry_tests::servers::{Postgres, Redis};
use belfry_tests::{Alternation, Replica, Turns, alternate};
use tempfile::TempDir;

use crate::figures::{Figures, millis, percentile};

/// A thousand activations, 20 per second, under 500 events per second.
const TURNS: Turns = Turns {
    rounds: 4,
    activations: 250,
    pause: Duration::from_millis(50),
    quiet: Duration::from_secs(12),
    every: Duration::from_millis(2),
};

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[]).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let (database, url) = (postgres.create_database().await?, redis.url());
    let start = || Replica::start(&database, Some(&url), &[]);
    let replicas = [start().await?, start().await?, start().await?];
    let clients = replicas.each_ref().map(Replica::client);
    let Alternation { rounds, took, projected, findings } = alternate(&clients, TURNS).await?;
    ensure!(findings.is_empty(), "{} findings, such as {:?}", findings.len(), findings.first());
    let rate = projected.values().sum::<u64>() as f64 / took.as_secs_f64();
    let (mut quiet, mut changing) = (Vec::new(), Vec::new());
    for (number, [mut before, mut during]) in rounds.into_iter().enumerate() {
        let (before, during) = (percentile(&mut before, 99), percentile(&mut during, 99));
        eprintln!("  round {}: p99 {}, changing {}", number + 1, millis(before), millis(during));
        quiet.push(before);
        changing.push(during);
    }
    let (before, during) = (percentile(&mut quiet, 50), percentile(&mut changing, 50));
    let (events, releases) = (projected.values().sum::<u64>(), projected.len());
    figures.add(
        "1,000 activations, 20 per second, three replicas",
        format!("{rate:.0} events/s, p99 {}", millis(during)),
        format!("{:.2} × the p99 without changes, {}", during.as_secs_f64() / before.as_secs_f64(), millis(before)),
        "≤ 1.5 ×",
    );
    figures.add(
        "events notified once, by the release that the notification names",
        format!("{events} of {events} events, by {releases} releases"),
        "none lost, none doubled",
        "all",
    );
    Ok(())
}
