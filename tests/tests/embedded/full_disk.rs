//! A full disk, under a real process: SQLite rolls back automatically, and events are accepted again once there is
//! space.
//!
//! A limit on the size of files has the effect of a full disk: a write fails, and everything else continues.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::{Batch, BelfryProcess, Client, results_ready};
use fastrand::Rng;
use tempfile::TempDir;
use tokio::process::Command;

use crate::from_environment;
use crate::load::{Load, PATIENCE};

/// Maximum size of a file, in bytes.
const FULL: u64 = 2 << 20;
/// Maximum time that the disk is full, in milliseconds.
const FULL_MS: u64 = 400;

/// Starts a service that may reach a limit on the size of files: it ignores the signal that the limit raises.
async fn start(directory: &TempDir) -> Result<BelfryProcess> {
    let under = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned);
    BelfryProcess::start_under(directory.path(), &under).await
}

async fn limit_files(service: &BelfryProcess, bytes: Option<u64>) -> Result<()> {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let process_id = service.pid().context("the process")?.to_string();
    let limited = Command::new("prlimit").args([&format!("--fsize={limit}:"), "--pid", &process_id]).status().await?;
    ensure!(limited.success(), "prlimit: {limited}");
    Ok(())
}

#[tokio::test]
async fn after_a_full_disk_events_are_taken_again() -> Result<()> {
    let directory = TempDir::new()?;
    let service = start(&directory).await?;
    limit_files(&service, Some(FULL)).await?;
    let client = service.client();
    let mut taken = 0;
    let began = Instant::now();
    let refused = loop {
        let posted = client.post(&results_ready(&Batch::number(taken))).await?;
        if posted.status != 201 {
            break posted;
        }
        taken += 1;
        ensure!(began.elapsed() < PATIENCE, "{taken} events were accepted, and the disk is not full");
    };
    ensure!(refused.status == 503, "{refused:?}");
    let readiness = service.readiness().await?;
    let writer = readiness["writer"].as_str().unwrap_or_default();
    ensure!(readiness["ready"] == false && writer.contains("the database failed"), "{readiness}");

    limit_files(&service, None).await?;
    let again = Instant::now();
    while service.readiness().await?["ready"] != true {
        ensure!(again.elapsed() < PATIENCE, "it is not ready again: {}", service.readiness().await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let posted = client.post(&results_ready(&Batch::number(taken))).await?;
    ensure!(posted.status == 201, "{posted:?}");
    // All events acknowledged before are there.
    let mut feed = client.feed("from=beginning", None).await?;
    Client::collect(&mut feed, taken as usize + 1).await?;
    service.terminate().await
}

/// The service's log file is on the same disk as the database.
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() -> Result<()> {
    let directory = TempDir::new()?;
    let service = start(&directory).await?;
    let client = service.client();
    limit_files(&service, Some(0)).await?;
    for number in 0..3 {
        let posted = client.post(&results_ready(&Batch::number(number))).await?;
        ensure!(posted.status == 503, "{posted:?}");
    }
    limit_files(&service, None).await?;
    let again = Instant::now();
    while client.post(&results_ready(&Batch::number(0))).await?.status != 201 {
        ensure!(again.elapsed() < PATIENCE, "no event is accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.terminate().await
}

/// The disk fills up repeatedly, under load, at any offset of a file, so that overwriting older bytes fails too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_full_disks() -> Result<()> {
    let rounds = from_environment("BELFRY_DISK_ROUNDS", 10);
    let mut random = Rng::with_seed(from_environment("BELFRY_CRASH_SEED", 1));
    let directory = TempDir::new()?;
    let service = start(&directory).await?;
    let load = Load::start();
    load.serve(Some(service.client()));
    for round in 1..=rounds {
        let refused = load.refused();
        limit_files(&service, Some(random.u64(..FULL))).await?;
        wait("a write fails", || load.refused() > refused).await?;
        tokio::time::sleep(Duration::from_millis(random.u64(..FULL_MS))).await;
        let acknowledged = load.acknowledged();
        limit_files(&service, None).await?;
        wait("events are accepted again", || load.acknowledged() > acknowledged).await?;
        tokio::time::sleep(Duration::from_millis(random.u64(..FULL_MS))).await;
        println!("round {round}: {} acknowledged, {} refused", load.acknowledged(), load.refused());
    }
    let summary = load.finish(service).await?;
    println!("{rounds} full disks; {} events acknowledged, {} entries seen", summary.acknowledged, summary.seen);
    Ok(())
}

async fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_so() {
        ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
