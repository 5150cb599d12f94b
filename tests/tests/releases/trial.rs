//! Releases on trial alongside the serving release: their effects are visible before they reach any recipient, and a
//! harmful release is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use belfry_artifacts::programs;
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Batch, Client, Replica, TestService, belfry, eventually, results_ready};
use serde_json::{Value, json};

/// Number of teachers that the events are about.
const TEACHERS: u64 = 200;
/// Time limit until a harmful canary is rolled back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns an event about one of the teachers.
fn event(number: u64) -> Value {
    results_ready(&Batch { teacher: format!("teacher-{}", number % TEACHERS), ..Batch::number(number) })
}

async fn push(client: &Client, behaviour: &str) -> Result<i64> {
    let pushed = client.push(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
    pushed.body["release_id"].as_i64().with_context(|| format!("{pushed:?}"))
}

async fn activate(client: &Client, behaviour: &str) -> Result<i64> {
    let release = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
    release["release_id"].as_i64().context("a release")
}

async fn trial(client: &Client) -> Result<Value> {
    Ok(client.get("/v1/projectors/hostile/trial").await?.body)
}

async fn begin(client: &Client, trial: &Value) -> Result<()> {
    let begun = client.post_to("/v1/projectors/hostile/trial", trial).await?;
    ensure!(begun.status == 200, "{begun:?}");
    Ok(())
}

/// Returns a canary whose steps have no minimum duration: each ends after its events.
fn canary(release: i64, percents: &[f64]) -> Value {
    let steps: Vec<Value> =
        percents.iter().map(|percent| json!({ "percent": percent, "seconds": 0, "events": 100 })).collect();
    json!({ "release_id": release, "mode": "canary", "steps": steps })
}

/// Returns the release that projected an event.
async fn release_of(client: &Client, event: &Value) -> Result<i64> {
    let event_id = event["event_id"].as_str().context("an id")?;
    let history = client.get(&format!("/v1/events/{event_id}")).await?.body;
    let projections = history["projections"].as_array().context("projections")?;
    let ours = projections.iter().find(|projection| projection["projector"] == "hostile");
    ours.and_then(|ours| ours["release_id"].as_i64()).with_context(|| format!("{history}"))
}

#[tokio::test]
async fn a_shadow_tells_what_it_would_have_told_and_nothing_of_it_is_issued() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let serving = activate(&client, "notify").await?;
    let shadow = push(&client, "urgent").await?;
    let begun = belfry(&["--url", client.url(), "trial", "shadow", &shadow.to_string()]).await?;
    ensure!(begun.code == Some(0) && begun.stdout.contains("without sending notifications"), "{begun:?}");
    for number in 0..50 {
        let posted = client.post(&event(number)).await?;
        let notifications = posted.body["notifications"].as_array().context("notifications")?;
        ensure!(
            notifications.iter().filter(|notification| notification["projector"] == "hostile").count() == 1,
            "{posted:?}"
        );
        ensure!(release_of(&client, &event(number)).await? == serving);
    }
    let seen = eventually(
        "the shadow has projected the events",
        async || trial(&client).await,
        |trial| trial["compared"]["events"] == 50,
    )
    .await?;
    let compared = &seen["compared"];
    ensure!(compared["changed"] == 50 && compared["same"] == 0 && compared["added"] == 0, "{compared}");
    ensure!(compared["fields"] == json!({ "priority": 50 }), "{compared}");
    let samples = compared["samples"].as_array().context("samples")?;
    ensure!(samples.len() == 10 && samples.iter().all(|sample| sample["recipient"] == "te…"), "{samples:?}");
    let shown = belfry(&["--url", client.url(), "trial", "show", "hostile"]).await?;
    ensure!(shown.stdout.contains("50 changed") && !shown.stdout.contains("teacher-1"), "{shown:?}");
    let ended = belfry(&["--url", client.url(), "trial", "end", "hostile", "--reason", "seen enough"]).await?;
    ensure!(ended.code == Some(0) && ended.stdout.contains("seen enough"), "{ended:?}");
    client.post(&event(1000)).await?;
    ensure!(trial(&client).await?["compared"]["events"] == 50, "the shadow projects events after its end");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_slow_shadow_passes_events_over_and_nobody_waits_for_it() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    activate(&client, "notify").await?;
    let shadow = push(&client, "endless-loop").await?;
    begin(&client, &json!({ "release_id": shadow, "mode": "shadow" })).await?;
    let began = Instant::now();
    let lines: String = (0..2000).map(|number| format!("{}\n", event(number))).collect();
    let taken = client.post_lines(lines).await?;
    ensure!(taken.iter().all(|answer| answer["status"] == "accepted"));
    // Each event would occupy the shadow for its deadline, 50 ms.
    ensure!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    eventually(
        "some events are skipped, and others time out",
        async || trial(&client).await,
        |trial| {
            let is_more_than = |number: &Value, least| number.as_u64().is_some_and(|number| number > least);
            let (compared, tried) = (&trial["compared"], &trial["tried"]);
            is_more_than(&compared["passed_over"], 1000) && is_more_than(&tried["outcomes"]["timed-out"], 0)
        },
    )
    .await?;
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_canary_gains_subjects_until_it_serves_all() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let serving = activate(&client, "notify").await?;
    let tried = push(&client, "urgent").await?;
    begin(&client, &canary(tried, &[20.0, 60.0, 100.0])).await?;
    let mut by_canary = BTreeSet::new();
    // For each step: its percentage, its number of events, and the number of those that the canary projected.
    let mut steps: BTreeMap<u64, (f64, u64, u64)> = BTreeMap::new();
    for number in 0..10 * TEACHERS {
        let before = trial(&client).await?;
        if before["status"] != "running" {
            break;
        }
        client.post(&event(number)).await?;
        let release = release_of(&client, &event(number)).await?;
        let subject = number % TEACHERS;
        ensure!(
            release == tried || !by_canary.contains(&subject),
            "teacher {subject} went back to the previous release"
        );
        if release == tried {
            by_canary.insert(subject);
        }
        if trial(&client).await?["step"] == before["step"] {
            let (percent, step) = (before["percent"].as_f64(), before["step"].as_u64());
            let of = steps.entry(step.context("a step")?).or_insert((percent.context("a share")?, 0, 0));
            of.1 += 1;
            of.2 += u64::from(release == tried);
        }
    }
    let ended =
        eventually("it serves all", async || trial(&client).await, |trial| trial["status"] != "running").await?;
    ensure!(ended["status"] == "promoted" && ended["reason"].is_string(), "{ended}");
    ensure!(steps.len() == 3, "{steps:?}");
    for (percent, events, by_canary) in steps.values() {
        let share = *by_canary as f64 * 100.0 / *events as f64;
        ensure!((share - percent).abs() < 12.0, "{share} % of {events} events at {percent} %");
    }
    client.post(&event(1_000_000)).await?;
    ensure!(release_of(&client, &event(1_000_000)).await? == tried, "it does not serve all");
    let back = belfry(&["--url", client.url(), "release", "rollback", "hostile"]).await?;
    ensure!(back.code == Some(0), "{back:?}");
    client.post(&event(1_000_001)).await?;
    ensure!(release_of(&client, &event(1_000_001)).await? == serving, "it is not rolled back like any other release");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_trial_outlives_a_restart_and_ends_with_a_rollback() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let serving = activate(&client, "notify").await?;
    let tried = push(&client, "urgent").await?;
    let wrong = client.post_to("/v1/projectors/hostile/trial", &canary(serving, &[10.0])).await?;
    ensure!(wrong.status == 409, "{wrong:?}");
    let wrong = client.post_to("/v1/projectors/hostile/trial", &canary(tried, &[50.0, 10.0])).await?;
    ensure!(wrong.status == 400, "{wrong:?}");
    begin(&client, &canary(tried, &[50.0])).await?;
    let service = service.restart().await?;
    let client = service.client();
    let mut by_canary = 0;
    for number in 0..TEACHERS {
        client.post(&event(number)).await?;
        by_canary += u64::from(release_of(&client, &event(number)).await? == tried);
    }
    ensure!((TEACHERS * 2 / 5..TEACHERS * 3 / 5).contains(&by_canary), "{by_canary} of {TEACHERS}");
    let back = belfry(&["--url", client.url(), "release", "rollback", "hostile"]).await?;
    ensure!(back.code == Some(0), "{back:?}");
    ensure!(trial(&client).await?["status"] == "ended");
    for number in TEACHERS..2 * TEACHERS {
        client.post(&event(number)).await?;
        ensure!(release_of(&client, &event(number)).await? == serving);
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_a_canary_fails_on_is_told_by_the_release_beside_it() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let serving = activate(&client, "notify").await?;
    let tried = push(&client, "trap").await?;
    begin(&client, &canary(tried, &[50.0, 100.0])).await?;
    for number in 0..TEACHERS {
        let posted = client.post(&event(number)).await?;
        ensure!(posted.body["dead_letters"].as_array().is_some_and(Vec::is_empty), "{posted:?}");
        ensure!(release_of(&client, &event(number)).await? == serving);
    }
    let ended = trial(&client).await?;
    ensure!(ended["status"] == "taken_back", "{ended}");
    ensure!(ended["reason"].as_str().is_some_and(|reason| reason.starts_with("it failed on")), "{ended}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_canary_that_does_harm_is_taken_back_within_seconds_on_every_replica() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&database, None, &[]).await?);
    }
    let client = replicas[0].client();
    let serving = activate(&client, "notify").await?;
    let (over, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = async |replica: &Replica| -> Result<()> {
        let client = replica.client();
        while !over.load(Ordering::Relaxed) {
            let posted = client.post(&event(next.fetch_add(1, Ordering::Relaxed))).await?;
            ensure!(posted.status == 201, "{posted:?}");
            let letters = posted.body["dead_letters"].as_array().map_or(0, Vec::len);
            ensure!(letters == 0, "the trial lost a notification: {posted:?}");
        }
        Ok(())
    };
    let trials = async {
        for behaviour in ["trap-on-one-in-twenty", "ten", "slow"] {
            let tried = push(&client, behaviour).await?;
            let steps = json!([{ "percent": 50, "seconds": 600, "events": 100_000 }, { "percent": 100, "seconds": 0, "events": 0 }]);
            begin(&client, &json!({ "release_id": tried, "mode": "canary", "steps": steps })).await?;
            let began = Instant::now();
            let ended = loop {
                let seen = trial(&client).await?;
                if seen["status"] != "running" {
                    break seen;
                }
                if began.elapsed() > PATIENCE {
                    bail!("{behaviour} still serves: {seen}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            println!("{behaviour}: rolled back after {:?}: {}", began.elapsed(), ended["reason"]);
            ensure!(ended["status"] == "taken_back" && ended["ended_by"] == "belfry", "{ended}");
            for replica in &replicas {
                eventually(
                    "the serving release serves alone",
                    async || Ok(replica.client().get("/v1/projectors").await?.body["projectors"][0].clone()),
                    |projector| projector["candidate"].is_null() && projector["active"]["release_id"] == serving,
                )
                .await?;
            }
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let ended = async {
        let ended = trials.await;
        over.store(true, Ordering::Relaxed);
        ended
    };
    tokio::try_join!(ended, load(&replicas[0]), load(&replicas[1]), load(&replicas[2]))?;
    let logs = replicas.iter().map(|replica| replica.process().log()).collect::<Result<Vec<_>>>()?;
    ensure!(logs.iter().any(|log| log.contains("canary rolled back")), "no replica logged it");
    Ok(())
}
