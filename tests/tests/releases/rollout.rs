//! Which release serves, and what ends that: decisions of operators, and failures.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{URGENT_FAILURES, programs};
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Batch, BelfryProcess, Replica, TestService, belfry, eventually, results_ready};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Returns an event whose subject is `even` or `odd`, as its number is.
fn event(number: u64) -> Value {
    let teacher = if number.is_multiple_of(2) { "even" } else { "odd" };
    results_ready(&Batch { teacher: teacher.into(), ..Batch::number(number) })
}

/// Returns the causes of an event's dead letters.
fn causes(posted: &Value) -> Vec<&str> {
    let letters = posted["dead_letters"].as_array().into_iter().flatten();
    letters.filter_map(|letter| letter["cause"].as_str()).collect()
}

/// Posts events to all three replicas concurrently, as fast as they accept them.
async fn post_to_all(replicas: &[Replica], numbers: std::ops::Range<u64>) -> Result<()> {
    let post = async |lane: usize| -> Result<()> {
        let client = replicas[lane].client();
        for number in numbers.clone() {
            let posted = client.post(&event(number + 1_000_000 * lane as u64)).await?;
            ensure!(posted.status == 201, "{posted:?}");
        }
        Ok(())
    };
    tokio::try_join!(post(0), post(1), post(2))?;
    Ok(())
}

#[tokio::test]
async fn a_release_that_fails_is_suspended_on_every_replica_before_it_has_done_much_harm() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&database, None, &[]).await?);
    }
    let client = replicas[0].client();
    let mut rows = PgConnection::connect(&database.url).await?;
    let good = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    for (round, behaviour) in [(0, "trap"), (1, "trap-on-even")] {
        let bad = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
        let first = round * 10_000;
        post_to_all(&replicas, first..first + 300).await?;
        let written: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.dead_letter WHERE release_id = $1")
            .bind(bad["release_id"].as_i64())
            .fetch_one(&mut rows)
            .await?;
        println!("{behaviour}: {written} dead letters with three replicas");
        ensure!((1..200).contains(&written), "{behaviour}: {written}");
        let changes: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.rollout WHERE suspended_release_id = $1")
            .bind(bad["release_id"].as_i64())
            .fetch_one(&mut rows)
            .await?;
        ensure!(changes == 1, "it was suspended {changes} times");
        for replica in &replicas {
            let serving = eventually(
                "the previous release serves",
                async || Ok(replica.client().get("/v1/projectors").await?.body["projectors"][0].clone()),
                |projector| {
                    projector["active"]["release_id"] == good["release_id"] && projector["active"]["active"] == true
                },
            )
            .await?;
            ensure!(serving["suspended_release_id"] == bad["release_id"] && serving["reason"].is_string(), "{serving}");
            let posted = replica.client().post(&event(first + 5_000)).await?;
            ensure!(causes(&posted.body).is_empty(), "{posted:?}");
        }
        let logs = replicas.iter().map(|replica| replica.process().log()).collect::<Result<Vec<_>>>()?;
        ensure!(logs.iter().any(|log| log.contains("release suspended")), "no replica logged it");
    }
    Ok(())
}

#[tokio::test]
async fn with_none_to_go_back_to_events_become_dead_letters_until_somebody_says_otherwise() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let bad = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "trap" })).await?;
    let mut written = Vec::new();
    for number in 0..40 {
        let posted = client.post(&event(number)).await?;
        ensure!(
            posted.body["notifications"].as_array().is_some_and(|made| made.len() == 1),
            "the other projector stopped"
        );
        written.extend(causes(&posted.body).into_iter().map(str::to_owned));
    }
    ensure!(written.iter().filter(|cause| *cause == "trapped").count() == 19, "{written:?}");
    ensure!(written.iter().filter(|cause| *cause == "suspended").count() == 21, "{written:?}");
    let projectors = client.get("/v1/projectors").await?.body;
    ensure!(projectors["projectors"][0]["halted"]["cause"] == "suspended", "{projectors}");
    let service = service.restart().await?;
    let client = service.client();
    ensure!(causes(&client.post(&event(100)).await?.body) == ["suspended"], "a restart changes nothing");
    // An operator activates it again.
    let again = json!({ "release_id": bad["release_id"] });
    ensure!(client.post_to("/v1/projectors/hostile/rollout", &again).await?.status == 200);
    ensure!(causes(&client.post(&event(101)).await?.body) == ["trapped"]);
    let metrics = service.metrics().await?;
    ensure!(metrics.contains("belfry_suspensions_total{projector=\"hostile\"}"), "{metrics}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn several_rules_are_switched_together_or_not_at_all() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let push = async |component, config| -> Result<i64> {
        client.push(component, &config).await?.body["release_id"].as_i64().context("a release")
    };
    let urgent = push(URGENT_FAILURES, json!({})).await?;
    let notify = push(programs::HOSTILE, json!({ "behaviour": "notify" })).await?;
    let reject = push(programs::HOSTILE, json!({ "behaviour": "reject" })).await?;
    let refused = client.post_to("/v1/rollout", &json!({ "release_ids": [urgent, 999] })).await?;
    ensure!(refused.status == 404, "{refused:?}");
    let refused = client.post_to("/v1/rollout", &json!({ "release_ids": [notify, reject] })).await?;
    ensure!(refused.status == 400, "two releases of one rule: {refused:?}");
    let serving = async || -> Result<Vec<i64>> {
        let body = client.get("/v1/projectors").await?.body;
        let projectors = body["projectors"].as_array().context("projectors")?;
        Ok(projectors.iter().filter_map(|projector| projector["active"]["release_id"].as_i64()).collect())
    };
    ensure!(serving().await? == [1], "a refused rollout took effect");
    let url = client.url();
    let both = [notify.to_string(), urgent.to_string()];
    let switched = belfry(&["--url", url, "release", "activate", &both[0], &both[1]]).await?;
    ensure!(switched.code == Some(0) && switched.stdout.lines().count() == 2, "{switched:?}");
    ensure!(serving().await? == [notify, urgent]);
    let posted = client.post(&event(1)).await?;
    ensure!(posted.body["notifications"].as_array().map(Vec::len) == Some(2), "{posted:?}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn rules_sinks_and_all_notifications_are_paused_with_a_reason() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let stdout = [("sink.stdout.enabled", "true".to_owned())];
    let one = Replica::start(&database, None, &stdout).await?;
    let other = Replica::start(&database, None, &stdout).await?;
    let (client, far) = (one.client(), other.client());
    let url = client.url().to_owned();
    let pause = async |arguments: &[&str]| belfry(&[&["--url", &url, "pause"], arguments].concat()).await;
    // Longer than any replica's poll interval.
    let heard = || tokio::time::sleep(Duration::from_millis(1500));
    let written = || -> Result<usize> { Ok(one.output()?.len() + other.output()?.len()) };

    ensure!(pause(&["projector", "nobody", "--reason", "x"]).await?.code == Some(4));
    ensure!(pause(&["projector", "teacher-results", "--reason", ""]).await?.code == Some(5));
    ensure!(pause(&["projector", "teacher-results", "--reason", "it is wrong"]).await?.code == Some(0));
    heard().await;
    let posted = far.post(&event(1)).await?;
    ensure!(causes(&posted.body) == ["paused"] && posted.body["notifications"] == json!([]), "{posted:?}");
    let history = far.get(&format!("/v1/events/{}", Batch::number(1).event_id)).await?.body;
    ensure!(history["dead_letters"][0]["detail"].as_str().is_some_and(|it| it.contains("it is wrong")), "{history}");
    ensure!(pause(&["end", "projector", "teacher-results"]).await?.code == Some(0));

    ensure!(pause(&["notifications", "--reason", "holidays"]).await?.code == Some(0));
    heard().await;
    let posted = far.post(&event(2)).await?;
    ensure!(posted.body["notifications"] == json!([]) && causes(&posted.body).is_empty(), "{posted:?}");
    let history = far.get(&format!("/v1/events/{}", Batch::number(2).event_id)).await?.body;
    ensure!(history["withheld"][0]["reason"] == "muted", "{history}");
    ensure!(pause(&["end", "notifications"]).await?.code == Some(0));

    ensure!(pause(&["sink", "stdout", "--reason", "it is moved"]).await?.code == Some(0));
    let listed = pause(&["list"]).await?;
    ensure!(listed.stdout.contains("it is moved") && listed.stdout.lines().count() == 2, "{}", listed.stdout);
    heard().await;
    let before = written()?;
    let posted = far.post(&event(3)).await?;
    ensure!(posted.body["notifications"].as_array().map(Vec::len) == Some(1), "{posted:?}");
    heard().await;
    ensure!(written()? == before, "the sink is paused");
    ensure!(pause(&["end", "sink", "stdout"]).await?.code == Some(0));
    eventually("the queued entries are written", async || written(), |written| *written == before + 2).await?;
    // Shutdown does not wait for a paused sink.
    ensure!(pause(&["sink", "stdout", "--reason", "again"]).await?.code == Some(0));
    heard().await;
    far.post(&event(4)).await?;
    let began = Instant::now();
    let (first, second) = tokio::join!(one.terminate(), other.terminate());
    first?;
    second?;
    ensure!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn going_back_after_a_restart_loads_nothing() -> Result<()> {
    let directory = TempDir::new()?;
    let process = BelfryProcess::start(directory.path()).await?;
    process.client().push_and_activate(URGENT_FAILURES, &json!({})).await?;
    process.terminate().await?;
    let process = BelfryProcess::start(directory.path()).await?;
    eventually("it is loaded in advance", async || process.log(), |log| log.contains("ready to serve again")).await?;
    // Remove every copy that it could be loaded from.
    std::fs::remove_dir_all(directory.path().join("compiled"))?;
    let path = directory.path().join("belfry.db").display().to_string();
    sqlx::query("UPDATE component SET bytes = x'00'").execute(&mut SqliteConnection::connect(&path).await?).await?;
    let client = process.client();
    let back = client.post_to("/v1/projectors/teacher-results/rollback", &json!({})).await?;
    ensure!(back.status == 200, "{back:?}");
    let posted = client.post(&event(1)).await?;
    let history = client.get(&format!("/v1/events/{}", event(1)["event_id"].as_str().context("an id")?)).await?.body;
    ensure!(history["projections"][0]["release_id"] == 1 && posted.body["dead_letters"] == json!([]), "{history}");
    process.terminate().await?;
    Ok(())
}
