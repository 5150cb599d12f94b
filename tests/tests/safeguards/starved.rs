//! A host that is too busy is distinguished from a rule that is too slow: no event is lost, and no rule is blamed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::{Batch, Client, TestService, results_ready};
use fail::FailGuard;
use serde_json::Value;

/// Number of events: more than the consecutive failures that suspend a release.
const EVENTS: u64 = 22;
/// The shortest deadline allowed. The first attempt at an event has this deadline, the next ones twice and four times as
/// much.
const DEADLINE: (&str, &str) = ("sandbox.native.deadline_ms", "20");

fn event(number: u64) -> Value {
    results_ready(&Batch::number(number))
}

#[tokio::test]
async fn a_host_that_is_too_busy_takes_no_event_and_blames_no_rule() -> Result<()> {
    let service = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &[DEADLINE]).await?;
    let client = service.client();
    {
        // The rule's thread sleeps and uses no processor time. It sleeps much longer than an attempt, because the clock
        // that ends attempts may lag.
        let _busy = FailGuard::new("project.call", "sleep(300)").map_err(anyhow::Error::msg)?;
        for number in 0..EVENTS {
            let posted = client.post(&event(number)).await?;
            let detail = posted.body["detail"].as_str().unwrap_or_default();
            ensure!(posted.status == 503 && detail.contains("this host is too busy"), "{posted:?}");
        }
        // Of many events in one request, only the first ones are tried; then it is known that all are refused.
        let lines: String = (EVENTS..10 * EVENTS).map(|number| format!("{}\n", event(number))).collect();
        let began = Instant::now();
        let refused = client.post_lines(lines).await;
        ensure!(began.elapsed() < Duration::from_secs(5), "{:?}: {refused:?}", began.elapsed());
    }
    let counted = service.metrics().await?;
    let starved =
        counted.lines().find_map(|line| line.strip_prefix("belfry_starved_total{projector=\"teacher-results\"} "));
    let starved: Option<u64> = starved.and_then(|count| count.parse().ok());
    // Each thread tries one more event of the large request.
    ensure!(starved.is_some_and(|starved| (EVENTS..EVENTS + 20).contains(&starved)), "{starved:?}");

    for number in 0..EVENTS {
        let posted = client.post(&event(number)).await?;
        let notified = posted.body["notifications"].as_array().map(Vec::len);
        ensure!(posted.status == 201 && notified == Some(1), "its release does not serve as before: {posted:?}");
    }
    let letters = client.get("/v1/dead-letters").await?.body;
    ensure!(letters["dead_letters"].as_array().is_some_and(Vec::is_empty), "{letters}");
    let mut feed = client.feed("from=beginning", None).await?;
    Client::collect(&mut feed, EVENTS as usize).await?;
    service.stop().await;
    Ok(())
}
