//! The service is killed with SIGKILL at random times and started again.

use std::time::Duration;

use anyhow::{Result, ensure};
use belfry_tests::BelfryProcess;
use fastrand::Rng;
use tempfile::TempDir;

use crate::from_environment;
use crate::load::Load;

/// Maximum lifetime of a service, in milliseconds.
const LIFE_MS: u64 = 120;
/// Minimum percentage of kills with requests in flight.
const IN_FLIGHT_PERCENT: usize = 80;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills() -> Result<()> {
    let rounds = from_environment("BELFRY_CRASH_ROUNDS", 100);
    let mut random = Rng::with_seed(from_environment("BELFRY_CRASH_SEED", 1));
    let directory = TempDir::new()?;
    let load = Load::start();
    let mut hits = 0;
    for _ in 0..rounds {
        let service = BelfryProcess::start(directory.path()).await?;
        load.serve(Some(service.client()));
        tokio::time::sleep(Duration::from_micros(random.u64(..LIFE_MS * 1000))).await;
        hits += usize::from(load.in_flight() > 0);
        service.kill().await?;
        load.serve(None);
    }
    let summary = load.finish(BelfryProcess::start(directory.path()).await?).await?;
    println!(
        "{rounds} kills, {hits} of them with requests in flight; {} events acknowledged, {} entries seen by the reader",
        summary.acknowledged, summary.seen
    );
    ensure!(hits * 100 >= rounds as usize * IN_FLIGHT_PERCENT, "only {hits} of {rounds} kills hit requests in flight");
    Ok(())
}
