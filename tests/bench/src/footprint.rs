//! The service's memory when idle and after many events, and its time from start to ready.

use std::time::Duration;

use anyhow::{Result, bail};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use tempfile::TempDir;

use crate::figures::{Figures, millis, percentile};
use crate::http::Connection;

const EVENTS: u64 = 100_000;
const LINES: u64 = 1000;
const STARTS: usize = 5;

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let first = BelfryProcess::start(directory.path()).await?;
    let cold = first.ready_after();
    first.terminate().await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let service = BelfryProcess::start(directory.path()).await?;
        starts.push(service.ready_after());
        service.terminate().await?;
    }
    let service = BelfryProcess::start(directory.path()).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = resident_mb(&service)?;
    let mut connection = Connection::open(service.http_address()).await?;
    for chunk in 0..EVENTS / LINES {
        let lines = chunk * LINES..(chunk + 1) * LINES;
        let body: String = lines.map(|number| format!("{}\n", results_ready(&Batch::number(number)))).collect();
        let (status, answer) = connection.post("application/x-ndjson", body.as_bytes()).await?;
        if status != 200 {
            bail!("{status}: {}", String::from_utf8_lossy(&answer));
        }
    }
    let busy = resident_mb(&service)?;
    service.terminate().await?;
    figures.add("memory, idle", format!("{idle:.1} MB resident"), "", "≤ 40 MB");
    figures.add("memory, after 100,000 events", format!("{busy:.1} MB resident"), "", "");
    figures.add(
        "start to ready",
        millis(percentile(&mut starts, 50)),
        format!("{} the first time, compiling the rule", millis(cold)),
        "≤ 300 ms",
    );
    Ok(())
}

/// Returns the resident memory in units of 10^6 bytes.
pub(crate) fn resident_mb(service: &BelfryProcess) -> Result<f64> {
    Ok(service.resident_memory()? as f64 / 1e6)
}
