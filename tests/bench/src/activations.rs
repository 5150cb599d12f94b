//! Two releases of a rule that change places a thousand times while three replicas on PostgreSQL take events; against the
//! same load while nothing changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use belfry_tests::servers::{Postgres, Redis};
use belfry_tests::{Alternation, Replica, alternate};
use tempfile::TempDir;

use crate::figures::{Figures, millis, percentile};

const ACTIVATIONS: usize = 1000;
/// 500 events a second.
const EVERY: Duration = Duration::from_millis(2);
const QUIET: Duration = Duration::from_secs(20);

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[]).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let (database, url) = (postgres.create_database().await?, redis.url());
    let start = || Replica::start(&database, Some(&url), &[]);
    let replicas = [start().await?, start().await?, start().await?];
    let clients = replicas.each_ref().map(Replica::client);
    let seen = alternate(&clients, ACTIVATIONS, EVERY, QUIET).await?;
    let Alternation { mut quiet, mut changing, took, projected, findings } = seen;
    ensure!(findings.is_empty(), "{} findings, such as {:?}", findings.len(), findings.first());
    let posted = |times: &[Duration], seconds: f64| times.len() as f64 / seconds;
    let rate = posted(&changing, took.as_secs_f64());
    let (before, during) = (percentile(&mut quiet, 99), percentile(&mut changing, 99));
    let (events, releases) = (projected.values().sum::<u64>(), projected.len());
    figures.add(
        "1,000 activations, three replicas",
        format!("{:.1} s at {rate:.0} events/s, p99 {}", took.as_secs_f64(), millis(during)),
        format!("{:.2} × the quiet p99, {}", during.as_secs_f64() / before.as_secs_f64(), millis(before)),
        "≤ 1.5 ×",
    );
    figures.add(
        "told meanwhile, by the release that it names",
        format!("{events} of {events} events, by {releases} releases"),
        "none lost, none doubled",
        "all",
    );
    Ok(())
}
