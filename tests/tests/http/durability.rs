//! System calls show that the log is synced to disk between a request and its response.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use tempfile::TempDir;

#[tokio::test]
async fn the_log_is_synced_before_the_answer() -> Result<()> {
    let directory = TempDir::new()?;
    let trace = directory.path().join("trace");
    let service = BelfryProcess::start_under(directory.path(), &strace(&trace)).await?;
    let posted = service.client().post(&results_ready(&Batch::number(1))).await?;
    ensure!(posted.status == 201, "{posted:?}");
    service.terminate().await?;

    let trace = whole(&trace).await?;
    let lines: Vec<&str> = trace.lines().collect();
    let find = |from: usize, words: &[&str]| {
        let found = lines[from..].iter().position(|line| words.iter().all(|word| line.contains(word)));
        found
            .map(|place| from + place)
            .with_context(|| format!("no {words:?} after line {from} of the trace:\n{trace}"))
    };
    let request = find(0, &["POST /v1/events"])?;
    let sync = find(request, &["sync(", "belfry.db-wal"])?;
    // strace may write a call as two lines: its beginning and, padded, its end.
    let synced = find(sync, &["sync", "= 0"])?;
    let answer = find(request, &["HTTP/1.1 201"])?;
    println!("{}\n{}\n{}", lines[request], lines[synced], lines[answer]);
    ensure!(synced < answer, "responded before the sync:\n{trace}");
    Ok(())
}

/// Waits until the trace is complete, and returns it.
async fn whole(trace: &Path) -> Result<String> {
    for _ in 0..500 {
        let text = std::fs::read_to_string(trace)?;
        if text.contains("+++ exited with 0 +++") {
            return Ok(text);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the trace does not show that the service exited")
}

/// Returns a command that traces reads, syncs and writes of all threads, with file names.
fn strace(trace: &Path) -> Vec<String> {
    let calls = "trace=recvfrom,read,readv,fsync,fdatasync,sendto,write,writev";
    // With -D the tracer is a grandchild, so the process that the test starts and stops is the service itself.
    ["strace", "-D", "-f", "-y", "-s", "64", "-e", calls, "-o"]
        .iter()
        .map(|word| (*word).to_owned())
        .chain([trace.display().to_string()])
        .collect()
}
