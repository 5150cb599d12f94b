//! Replay of recorded events with a candidate, compared with parsing and projecting the same events alone.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{TEACHER_RESULTS, URGENT_FAILURES};
use belfry_model::{Envelope, Event};
use belfry_tests::{Batch, BelfryProcess, belfry, results_ready};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::calls::sandbox;
use crate::figures::{Figures, median, percent};

const EVENTS: u64 = 100_000;
const LINES: u64 = 5000;
/// One batch in `FAILED` has failures, for which the candidate produces different notifications.
const FAILED: u64 = 100;
const ROUNDS: usize = 3;
/// Number of events that are projected bare in a round.
const BARE: u64 = 20_000;

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let service = BelfryProcess::start(directory.path()).await?;
    let client = service.client();
    for first in (0..EVENTS).step_by(LINES as usize) {
        let lines: String = (first..first + LINES).map(|number| format!("{}\n", batch(number))).collect();
        client.post_lines(lines).await?;
    }
    let urgent = client.push(URGENT_FAILURES, &json!({})).await?.body["release_id"].to_string();
    let (mut against_active, mut against_recorded, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        against_active.push(replay(client.url(), &["--candidate", &urgent], EVENTS / FAILED).await?);
        let recorded = ["--candidate", "1", "--baseline", "recorded"];
        against_recorded.push(replay(client.url(), &recorded, 0).await?);
        bare.push(bare_loop()?);
    }
    service.terminate().await?;
    let [active, recorded, bare] =
        [&mut against_active, &mut against_recorded, &mut bare].map(|rates| median(rates.as_mut_slice()));
    figures.add(
        "replay of 100,000 events, compared with the recorded notifications",
        format!("{recorded:.0} events/s"),
        format!("{} of {bare:.0}/s, parsing and projecting on one thread", percent(recorded, bare)),
        "≥ 15,000/s per core",
    );
    figures.add(
        "  compared with the active release projected again",
        format!("{active:.0} events/s"),
        format!("{} of the same", percent(active, bare)),
        "",
    );
    Ok(())
}

fn batch(number: u64) -> Value {
    let failed = i64::from(number.is_multiple_of(FAILED));
    results_ready(&Batch { failed, ..Batch::number(number) })
}

/// Runs a replay and returns its events per second. Fails on differences other than the planted ones.
async fn replay(url: &str, arguments: &[&str], changed: u64) -> Result<f64> {
    let command = ["--url", url, "--output", "json", "replay", "teacher-results"];
    let ended = belfry(&[&command[..], arguments].concat()).await?;
    let report = ended.json()?.pop().with_context(|| ended.stderr.clone())?;
    let found = |name: &str| report["notifications"][name].as_u64().unwrap_or(u64::MAX);
    let all = [found("same"), found("added"), found("removed"), found("changed")];
    ensure!(all == [EVENTS - changed, 0, 0, changed], "{report}");
    report["events_per_second"].as_f64().context("a rate")
}

fn bare_loop() -> Result<f64> {
    let sandbox = sandbox()?;
    let rule = sandbox.load(TEACHER_RESULTS)?;
    let configuration = Arc::new(rule.configure(&belfry_model::JsonObject::default())?);
    let texts: Vec<String> = (0..BARE).map(|number| batch(number).to_string()).collect();
    let began = Instant::now();
    for text in &texts {
        let envelope = Envelope::parse(text.as_bytes())?;
        let event = Event::from_envelope(&envelope)?;
        std::hint::black_box(rule.project(&configuration, &Arc::new(envelope), &event));
    }
    Ok(BARE as f64 / began.elapsed().as_secs_f64())
}
