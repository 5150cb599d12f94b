//! The command with a running service, and the demo.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{TEACHER_RESULTS, programs};
use belfry_tests::{Batch, BelfryProcess, TestService, belfry, results_ready};
use tempfile::TempDir;

#[tokio::test]
async fn the_demo_shows_everything_and_ends_well() -> Result<()> {
    let ended = belfry(&["demo"]).await?;
    ensure!(ended.code == Some(0), "{}\n{}", ended.stdout, ended.stderr);
    for word in ["teacher-björn", "immediate", "duplicate", "conflicting-event", "/data/batch_id", "p99", "agree"] {
        ensure!(ended.stdout.contains(word), "{word:?} is missing:\n{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn the_demo_notices_a_dropped_notification() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("forgetful.wasm");
    std::fs::write(&file, programs::FORGETFUL)?;
    let ended = belfry(&["demo", "--second-release", file.to_str().context("the path is not UTF-8")?]).await?;
    ensure!(ended.code == Some(3), "{:?}\n{}", ended.code, ended.stdout);
    ensure!(ended.stderr.contains("led to 0 notifications instead of 1"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn events_are_published_and_explained() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    let directory = TempDir::new()?;
    let file = directory.path().join("events.json");
    // A value may span several lines, and a line may have several values.
    let first = serde_json::to_string_pretty(&results_ready(&Batch::number(1)))?;
    std::fs::write(&file, format!("{first}{}\n{first}", results_ready(&Batch::number(2))))?;
    let file = file.to_str().context("the path is not UTF-8")?;
    let ended = belfry(&["--url", &url, "--output", "json", "publish", file]).await?;
    ensure!(ended.code == Some(0), "{:?} {}", ended.code, ended.stderr);
    let statuses: Vec<_> = ended.stdout.matches("\"status\":\"accepted\"").collect();
    ensure!(statuses.len() == 2 && ended.stdout.contains("\"status\":\"duplicate\""), "{}", ended.stdout);

    let event_id = Batch::number(1).event_id.to_string();
    let explained = belfry(&["--url", &url, "explain", &event_id]).await?;
    ensure!(explained.code == Some(0) && explained.stdout.contains("teacher-results@1.0.0#1"), "{}", explained.stdout);
    let missing = belfry(&["--url", &url, "explain", "00000000-0000-0000-0000-000000000000"]).await?;
    ensure!(missing.code == Some(4), "{:?}", missing.code);
    let tail = belfry(&["--url", &url, "tail", "--from", "beginning", "--count", "2"]).await?;
    ensure!(tail.stdout.lines().count() == 2, "{}", tail.stdout);

    std::fs::write(directory.path().join("bad.json"), "{}")?;
    let bad = directory.path().join("bad.json");
    let refused = belfry(&["--url", &url, "publish", bad.to_str().context("the path is not UTF-8")?]).await?;
    ensure!(refused.code == Some(3), "{:?} {}", refused.code, refused.stdout);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn rules_are_tested_and_pushed() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    let directory = TempDir::new()?;
    let component = directory.path().join("rule.wasm");
    std::fs::write(&component, TEACHER_RESULTS)?;
    let component = component.to_str().context("the path is not UTF-8")?;
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/teacher-results/cases");
    let tested = belfry(&["plugin", "test", component, "--cases", cases]).await?;
    ensure!(tested.code == Some(0), "{}\n{}", tested.stdout, tested.stderr);
    let others = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/examples/urgent-failures/cases");
    let failed = belfry(&["plugin", "test", component, "--cases", others]).await?;
    ensure!(failed.code == Some(3) && failed.stdout.contains("priority"), "{:?}\n{}", failed.code, failed.stdout);
    let pushed = belfry(&["--url", &url, "plugin", "push", component, "--activate"]).await?;
    ensure!(pushed.code == Some(0), "{}\n{}", pushed.stdout, pushed.stderr);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_second_service_on_the_same_data_is_refused() -> Result<()> {
    let directory = TempDir::new()?;
    let first = BelfryProcess::start(directory.path()).await?;
    let store = format!("store.url=sqlite:{}", directory.path().join("belfry.db").display());
    let listen = ["--set", "http.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0"];
    let ended = belfry(&[&["serve", "--set", &store], &listen[..]].concat()).await?;
    ensure!(ended.code == Some(5), "{:?} {}", ended.code, ended.stderr);
    ensure!(ended.stderr.contains("in use by another belfry"), "{}", ended.stderr);
    first.terminate().await
}

#[tokio::test]
async fn the_stdout_sink_writes_a_line_for_every_published_entry() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start_with_stdout(directory.path()).await?;
    let pretty = serde_json::to_string_pretty(&results_ready(&Batch::number(1)))?;
    process.client().post_text(pretty).await?;
    process.terminate().await?;
    let written = std::fs::read_to_string(directory.path().join("stdout"))?;
    let types: Vec<String> = written
        .lines()
        .map(|line| Ok(serde_json::from_str::<serde_json::Value>(line)?["event_type"].to_string()))
        .collect::<Result<_>>()?;
    let expected = ["\"huleedu.ras.batch.results.ready.v1\"", "\"huleedu.notification.teacher.requested.v1\""];
    ensure!(types == expected, "{types:?}");
    Ok(())
}
