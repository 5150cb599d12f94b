//! A disk that is full, under a real process: SQLite rolls back by itself, and once there is room events are taken again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::{Batch, BelfryProcess, Client, results_ready};
use tempfile::TempDir;
use tokio::process::Command;

/// No file of the process may become larger than this many blocks of 512 bytes: 2 MiB.
const BLOCKS: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn after_a_full_disk_events_are_taken_again() -> Result<()> {
    let directory = TempDir::new()?;
    // A limit on the size of files: as on a full disk, a write fails, and all else goes on. Its signal is ignored.
    let script = format!("trap '' XFSZ; ulimit -S -f {BLOCKS}; exec \"$@\"");
    let under = ["sh", "-c", &script, "sh"].map(str::to_owned);
    let service = BelfryProcess::start_under(directory.path(), &under).await?;
    let client = service.client();
    let mut taken = 0;
    let began = Instant::now();
    let refused = loop {
        let posted = client.post(&results_ready(&Batch::number(taken))).await?;
        if posted.status != 201 {
            break posted;
        }
        taken += 1;
        ensure!(began.elapsed() < PATIENCE, "{taken} events were taken, and the disk is not full");
    };
    ensure!(refused.status == 503, "{refused:?}");
    let readiness = service.readiness().await?;
    let writer = readiness["writer"].as_str().unwrap_or_default();
    ensure!(readiness["ready"] == false && writer.contains("the database failed"), "{readiness}");

    let process_id = service.pid().context("the process")?.to_string();
    let raised = Command::new("prlimit").args(["--fsize=unlimited:", "--pid", &process_id]).status().await?;
    ensure!(raised.success(), "there is room again");
    let again = Instant::now();
    while service.readiness().await?["ready"] != true {
        ensure!(again.elapsed() < PATIENCE, "it is not ready again: {}", service.readiness().await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let posted = client.post(&results_ready(&Batch::number(taken))).await?;
    ensure!(posted.status == 201, "{posted:?}");
    // All that were acknowledged before are there.
    let mut feed = client.feed("from=beginning", None).await?;
    Client::collect(&mut feed, taken as usize + 1).await?;
    service.terminate().await
}
