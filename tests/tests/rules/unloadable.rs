//! Releases that cannot be loaded, or take long to load: the serving release continues, and operators' decisions take
//! effect at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{URGENT_FAILURES, programs};
use belfry_tests::{Batch, BelfryProcess, Client, TestService, belfry, eventually, results_ready};
use fail::FailGuard;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// Held by tests that slow down loading, because this affects all tests in the process.
static SLOW: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Time limit for a decision to take effect.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The failpoint that slows down loading, by much more than `AT_ONCE`.
const LOADING: &str = "sleep(6000)";

fn event(number: u64) -> Value {
    results_ready(&Batch::number(number))
}

fn causes(posted: &Value) -> Vec<&str> {
    let letters = posted["dead_letters"].as_array().into_iter().flatten();
    letters.filter_map(|letter| letter["cause"].as_str()).collect()
}

async fn push(client: &Client, component: &'static [u8], config: &Value) -> Result<i64> {
    let pushed = client.push(component, config).await?;
    pushed.body["release_id"].as_i64().with_context(|| format!("a release: {pushed:?}"))
}

async fn at_once(what: &str, change: impl Future<Output = Result<()>>) -> Result<()> {
    let began = Instant::now();
    change.await?;
    println!("{what}: {:?}", began.elapsed());
    ensure!(began.elapsed() < AT_ONCE, "{what} took {:?}", began.elapsed());
    Ok(())
}

async fn post_to(client: &Client, path: &str, body: &Value) -> Result<()> {
    let answer = client.post_to(path, body).await?;
    ensure!(answer.status.is_success(), "{path}: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn decisions_take_effect_at_once_whatever_is_being_loaded() -> Result<()> {
    let _one_at_a_time = SLOW.lock().await;
    let service = TestService::start().await?;
    let client = service.client();
    client.push_and_activate(URGENT_FAILURES, &json!({})).await?;
    let good = push(&client, programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let bad = push(&client, programs::HOSTILE, &json!({ "behaviour": "trap" })).await?;
    let later = push(&client, programs::HOSTILE, &json!({ "behaviour": "reject" })).await?;
    client.activate("hostile", good).await?;
    client.activate("hostile", bad).await?;

    let _slow = FailGuard::new("component.load", LOADING).map_err(anyhow::Error::msg)?;
    let path = "/v1/projectors/hostile/rollout";
    let other = service.client();
    let activation = tokio::spawn(async move { other.post_to(path, &json!({ "release_id": later })).await });
    let other = service.client();
    let uploads = [2, 3].map(|hours| {
        let other = other.clone();
        tokio::spawn(async move { other.push(URGENT_FAILURES, &json!({ "deadline_hours": hours })).await })
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let reason = json!({ "reason": "it is wrong" });
    at_once("a pause", post_to(&client, "/v1/pauses/projector/teacher-results", &reason)).await?;
    let posted = client.post(&event(1)).await?;
    ensure!(causes(&posted.body).contains(&"paused"), "{posted:?}");
    let resume = "/v1/pauses/projector/teacher-results/resume";
    at_once("the end of a pause", post_to(&client, resume, &json!({}))).await?;
    let back = "/v1/projectors/teacher-results/rollback";
    at_once("a rollback", post_to(&client, back, &json!({}))).await?;
    for number in 2..40 {
        let began = Instant::now();
        let posted = client.post(&event(number)).await?;
        ensure!(posted.status == 201 && began.elapsed() < AT_ONCE, "{:?}: {posted:?}", began.elapsed());
    }
    let projectors = client.get("/v1/projectors").await?.body;
    ensure!(
        projectors["projectors"][0]["active"]["release_id"] == good,
        "the failing release was not suspended: {projectors}"
    );
    ensure!(!activation.is_finished() && !uploads[0].is_finished(), "a release was loaded before all of that happened");

    // The suspension of a release meanwhile is no reason to refuse another one.
    let activated = activation.await??;
    ensure!(activated.status == 200 && activated.body["active"]["release_id"] == later, "{activated:?}");
    for upload in uploads {
        let uploaded = upload.await??;
        ensure!(uploaded.status == 201, "{uploaded:?}");
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_someone_decides_meanwhile_is_not_undone_by_an_activation_that_took_long() -> Result<()> {
    let _one_at_a_time = SLOW.lock().await;
    let service = TestService::start().await?;
    let client = service.client();
    client.push_and_activate(URGENT_FAILURES, &json!({})).await?;
    let later = push(&client, URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    let other = service.client();
    let slow = FailGuard::new("component.load", LOADING).map_err(anyhow::Error::msg)?;
    let activation = tokio::spawn(async move {
        other.post_to("/v1/projectors/teacher-results/rollout", &json!({ "release_id": later })).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    post_to(&client, "/v1/projectors/teacher-results/rollback", &json!({})).await?;
    let refused = activation.await??;
    ensure!(refused.status == 409 && refused.body["type"] == "urn:belfry:problem:refused", "{refused:?}");
    drop(slow);
    let projectors = client.get("/v1/projectors").await?.body;
    ensure!(projectors["projectors"][0]["active"]["release_id"] == 1, "{projectors}");
    service.stop().await;
    Ok(())
}

/// Replaces the bytes of a release's component.
async fn change_component(directory: &Path, release_id: i64, bytes: &[u8]) -> Result<()> {
    let path = directory.join("belfry.db").display().to_string();
    let mut database = SqliteConnection::connect(&path).await?;
    let changed =
        sqlx::query("UPDATE component SET bytes = $1 WHERE digest = (SELECT digest FROM release WHERE id = $2)")
            .bind(bytes)
            .bind(release_id)
            .execute(&mut database)
            .await?;
    ensure!(changed.rows_affected() == 1, "{changed:?}");
    Ok(())
}

#[tokio::test]
async fn a_component_that_was_changed_in_the_database_is_refused_and_what_serves_goes_on() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start(directory.path()).await?;
    let client = process.client();
    let changed = push(&client, URGENT_FAILURES, &json!({})).await?;
    // The same rule with an additional empty custom section, so only its digest differs.
    change_component(directory.path(), changed, &[URGENT_FAILURES, &[0, 2, 1, b'x']].concat()).await?;
    let refused = client.post_to("/v1/projectors/teacher-results/rollout", &json!({ "release_id": changed })).await?;
    ensure!(refused.status == 422 && refused.body["type"] == "urn:belfry:problem:component-changed", "{refused:?}");
    ensure!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("sha256")), "{refused:?}");
    let posted = client.post(&event(1)).await?;
    ensure!(
        posted.status == 201 && causes(&posted.body).is_empty(),
        "the serving release does not continue: {posted:?}"
    );
    process.terminate().await
}

#[tokio::test]
async fn a_release_that_no_longer_loads_keeps_its_projector_out_and_nothing_else() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start(directory.path()).await?;
    let client = process.client();
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let urgent = client.push_and_activate(URGENT_FAILURES, &json!({})).await?["release_id"].as_i64();
    let urgent = urgent.context("a release")?;
    process.terminate().await?;
    change_component(directory.path(), urgent, programs::HOSTILE).await?;

    let process = BelfryProcess::start(directory.path()).await?;
    let client = process.client();
    let posted = client.post(&event(1)).await?;
    ensure!(posted.status == 201 && causes(&posted.body) == ["suspended"], "{posted:?}");
    ensure!(
        posted.body["notifications"].as_array().map(Vec::len) == Some(1),
        "the other projector does not continue: {posted:?}"
    );
    let projectors = client.get("/v1/projectors").await?.body;
    let halted = projectors["projectors"][1]["halted"]["detail"].as_str().unwrap_or_default().to_owned();
    ensure!(halted.contains("cannot be loaded") && halted.contains("sha256"), "{projectors}");
    ensure!(process.metrics().await?.contains("belfry_releases_not_loaded 1"), "{}", process.metrics().await?);
    ensure!(process.log()?.contains("a release that should serve cannot be loaded"), "{}", process.log()?);

    // Once the component is restored, the release serves automatically, and its dead letters can be redriven.
    change_component(directory.path(), urgent, URGENT_FAILURES).await?;
    eventually("it is loaded", async || process.metrics().await, |it| it.contains("belfry_releases_not_loaded 0"))
        .await?;
    let posted = client.post(&event(2)).await?;
    ensure!(causes(&posted.body).is_empty(), "{posted:?}");
    let redriven = belfry(&["--url", client.url(), "--output", "json", "dead-letter", "redrive", "--all"]).await?;
    ensure!(redriven.json()?[0]["redriven"] == 1, "{redriven:?}");
    process.terminate().await
}

#[tokio::test]
async fn a_projector_is_retired_and_comes_back_with_one_command_each() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start(directory.path()).await?;
    let client = process.client();
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let url = client.url().to_owned();
    let release = async |arguments: &[&str]| belfry(&[&["--url", &url, "release"], arguments].concat()).await;
    let made = |posted: &Value| posted["notifications"].as_array().map(Vec::len);
    ensure!(made(&client.post(&event(1)).await?.body) == Some(2));

    ensure!(release(&["retire", "nobody", "--reason", "x"]).await?.code == Some(4));
    ensure!(release(&["retire", "hostile", "--reason", ""]).await?.code == Some(5));
    let retired = release(&["retire", "hostile", "--reason", "the feature is gone"]).await?;
    ensure!(retired.code == Some(0) && retired.stderr.contains("release rollback hostile"), "{retired:?}");
    ensure!(release(&["retire", "hostile", "--reason", "again"]).await?.code == Some(5));
    let gone = |posted: &Value| made(posted) == Some(1) && causes(posted).is_empty();
    let posted = client.post(&event(2)).await?;
    ensure!(gone(&posted.body), "it still makes notifications or dead letters: {posted:?}");
    let projectors = client.get("/v1/projectors").await?.body;
    ensure!(projectors["projectors"][0]["retired"] == true, "{projectors}");
    ensure!(projectors["projectors"][0]["active"]["active"] == false, "{projectors}");
    let shadow = json!({ "release_id": 2, "mode": "shadow" });
    ensure!(client.post_to("/v1/projectors/hostile/trial", &shadow).await?.status == 409);
    process.terminate().await?;

    let process = BelfryProcess::start(directory.path()).await?;
    let client = process.client();
    ensure!(gone(&client.post(&event(3)).await?.body), "a restart changes nothing");
    let url = client.url().to_owned();
    let back = belfry(&["--url", &url, "release", "rollback", "hostile"]).await?;
    ensure!(back.code == Some(0) && back.stdout.contains("serves hostile"), "{back:?}");
    ensure!(made(&client.post(&event(4)).await?.body) == Some(2), "it does not serve again");
    let noted = belfry(&["--url", &url, "--output", "json", "audit-log", "--action", "release"]).await?.json()?;
    ensure!(noted[0]["action"] == "release.rollback" && noted[1]["action"] == "release.retire", "{noted:?}");
    ensure!(noted[1]["detail"]["reason"] == "the feature is gone", "{noted:?}");
    process.terminate().await
}
