//! A rule that returns two different answers to one event is rejected, and detected if it is active. The sandbox prevents
//! such rules, so these tests switch off the safeguard.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::{Batch, BelfryProcess, eventually, results_ready};
use serde_json::{Value, json};
use tempfile::TempDir;

const CURIOUS: &str = "clocks-and-randomness";

fn sabotaged(percent: &str) -> [(&'static str, String); 2] {
    [("BELFRY_SABOTAGE", "seeded-randomness".into()), ("releases.recheck_percent", percent.to_owned())]
}

async fn differing(process: &BelfryProcess) -> Result<Vec<Value>> {
    let noted = process.client().get("/v1/audit-log?action=release.differs").await?;
    Ok(noted.body["changes"].as_array().context("no changes")?.clone())
}

async fn rechecked(process: &BelfryProcess, projector: &str, result: &str) -> Result<u64> {
    let text = process.metrics().await?;
    let series = format!("belfry_rechecks_total{{projector=\"{projector}\",result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    Ok(line.map_or(Ok(0), str::parse)?)
}

#[tokio::test]
async fn a_rule_that_gives_two_answers_is_not_taken() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start_with(directory.path(), &sabotaged("0")).await?;
    let refused = process.client().push(programs::HOSTILE, &json!({ "behaviour": CURIOUS })).await?;
    ensure!(refused.status == 422 && refused.body["type"].to_string().contains("not-deterministic"), "{refused:?}");
    let taken = process.client().push(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    ensure!(taken.body["release_id"].is_i64(), "a deterministic rule is accepted: {taken:?}");
    process.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn a_rule_that_gives_two_answers_is_found_where_it_serves() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start(directory.path()).await?;
    process.client().push_and_activate(programs::HOSTILE, &json!({ "behaviour": CURIOUS })).await?;
    process.terminate().await?;
    let process = BelfryProcess::start_with(directory.path(), &sabotaged("100")).await?;
    for number in 0..10 {
        process.client().post(&results_ready(&Batch::number(number))).await?;
    }
    let found = async || rechecked(&process, "hostile", "differs").await;
    eventually("all events are projected again", found, |differs| *differs == 10).await?;
    let noted =
        eventually("the difference is recorded", async || differing(&process).await, |noted| !noted.is_empty()).await?;
    ensure!(noted.len() == 1, "recorded at intervals, not for each event: {noted:?}");
    ensure!(noted[0]["by"] == "belfry" && noted[0]["detail"]["event_id"].is_string(), "{noted:?}");
    ensure!(
        noted[0]["detail"]["fields"] == json!(["payload"]),
        "names within a payload must not be recorded, since the rule chooses them: {noted:?}"
    );
    ensure!(rechecked(&process, "teacher-results", "same").await? == 10, "the other rule is deterministic");
    ensure!(rechecked(&process, "teacher-results", "differs").await? == 0);
    process.terminate().await?;
    // With the safeguard, the rule is deterministic.
    let all = [("releases.recheck_percent", "100".to_owned())];
    let process = BelfryProcess::start_with(directory.path(), &all).await?;
    for number in 100..110 {
        process.client().post(&results_ready(&Batch::number(number))).await?;
    }
    let same = async || rechecked(&process, "hostile", "same").await;
    eventually("all events are projected again", same, |same| *same == 10).await?;
    process.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn about_as_many_are_looked_at_again_as_is_asked_for() -> Result<()> {
    let directory = TempDir::new()?;
    let some = [("releases.recheck_percent", "20".to_owned())];
    let process = BelfryProcess::start_with(directory.path(), &some).await?;
    let lines: String = (0..1000).map(|number| format!("{}\n", results_ready(&Batch::number(number)))).collect();
    process.client().post_lines(lines).await?;
    let looked_at = async || {
        Ok(rechecked(&process, "teacher-results", "same").await?
            + rechecked(&process, "teacher-results", "passed-over").await?)
    };
    let sum = eventually("some events are projected again", looked_at, |sum| *sum >= 150).await?;
    ensure!(sum <= 250, "{sum} of 1000 events are projected again");
    process.terminate().await?;
    Ok(())
}
