//! The content of events and the people they are about appear in no log, metric or error response.

use anyhow::{Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::{Batch, BelfryProcess, results_ready};
use serde_json::json;
use tempfile::TempDir;

/// A marker in place of personal data.
const CANARY: &str = "canary-in-the-tower";

#[tokio::test]
async fn payloads_and_recipients_appear_neither_in_logs_nor_in_metrics() -> Result<()> {
    let directory = TempDir::new()?;
    let loud = ["env", "BELFRY__LOG__LEVEL=debug"].map(str::to_owned);
    let service = BelfryProcess::start_under(directory.path(), &loud).await?;
    let client = service.client();
    let batch = |number| Batch {
        batch_id: format!("{CANARY}-batch"),
        teacher: format!("{CANARY}-teacher"),
        ..Batch::number(number)
    };
    client.post(&results_ready(&batch(1))).await?;
    let mut conflicting = results_ready(&batch(1));
    conflicting["data"]["completed_essays"] = json!(1);
    client.post(&conflicting).await?;
    let mut malformed = results_ready(&batch(2));
    malformed["data"]["total_essays"] = json!(CANARY);
    for text in [malformed.to_string(), format!("\"{CANARY}\""), format!("{{\"{CANARY}\":1,\"{CANARY}\":2}}")] {
        let refused = client.post_text(text).await?;
        ensure!(!refused.body.to_string().contains(CANARY), "an error response quotes the event: {}", refused.body);
    }
    // Rules that fail, and one that prints.
    for behaviour in ["trap", "invalid-payload", "print"] {
        client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
        client.post(&results_ready(&batch(behaviour.len() as u64 + 10))).await?;
    }
    let metrics = service.metrics().await?;
    ensure!(metrics.contains("belfry_dead_letters_total"), "{metrics}");
    ensure!(!metrics.contains(CANARY), "{metrics}");
    let log = service.log()?;
    ensure!(log.lines().count() > 10, "the log has too few lines for this check to mean anything: {log}");
    ensure!(!log.contains(CANARY), "{log}");
    service.terminate().await
}
