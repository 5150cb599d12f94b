//! Redriving retries the events that a rule could not project, in order, and notifies no one twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Batch, Client, Replica, TestService, belfry, results_ready};
use serde_json::{Value, json};

const EVENTS: u64 = 12;

/// Returns the event with this number. The behaviour `trap-on-even` traps on every third one.
fn event(number: u64) -> Value {
    let teacher = if number.is_multiple_of(3) { "even" } else { "odd" };
    results_ready(&Batch { teacher: teacher.into(), ..Batch::number(number) })
}

async fn activate(client: &Client, behaviour: &str) -> Result<i64> {
    let release = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
    release["release_id"].as_i64().context("no release id")
}

async fn history(client: &Client, number: u64) -> Result<Value> {
    let event_id = event(number)["event_id"].as_str().context("no id")?.to_owned();
    Ok(client.get(&format!("/v1/events/{event_id}")).await?.body)
}

fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// Returns the number of notifications of the rule `hostile` in an event's history.
fn notified(history: &Value) -> usize {
    let notifications = history["notifications"].as_array().into_iter().flatten();
    notifications.filter(|notification| notification["projector"] == "hostile").count()
}

async fn command(client: &Client, arguments: &[&str]) -> Result<Value> {
    let ended = belfry(&[&["--url", client.url(), "--output", "json", "dead-letter"], arguments].concat()).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    Ok(Value::Array(ended.json()?))
}

/// The test, which is the same for both stores.
async fn what_failed_is_tried_again(client: &Client) -> Result<()> {
    activate(client, "trap-on-even").await?;
    for number in 0..EVENTS {
        client.post(&event(number)).await?;
    }
    let groups = command(client, &["list"]).await?;
    ensure!(count(&groups) == 1 && groups[0]["count"] == 4 && groups[0]["cause"] == "trapped", "{groups}");
    let each = command(client, &["list", "--each", "--projector", "hostile"]).await?;
    ensure!(count(&each) == 4, "{each}");
    let first = each[0]["id"].as_i64().context("no id")?.to_string();
    let shown = command(client, &["show", &first]).await?;
    ensure!(shown[0]["event"]["event_id"] == event(0)["event_id"] && shown[0]["settled"].is_null(), "{shown}");
    // The active release fails again, so the dead letters remain.
    let summary = command(client, &["redrive", "--projector", "hostile"]).await?;
    ensure!(summary[0]["still_dead"] == 4 && summary[0]["redriven"] == 0, "{summary}");
    activate(client, "notify").await?;
    let dry = command(client, &["redrive", "--projector", "hostile", "--dry-run"]).await?;
    ensure!(dry[0]["tried"] == 4 && dry[0]["redriven"] == 0, "{dry}");
    ensure!(notified(&history(client, 0).await?) == 0, "a dry run changes nothing");
    let one = command(client, &["redrive", "--id", &first]).await?;
    ensure!(one[0]["redriven"] == 1 && one[0]["notifications"] == 1, "{one}");
    let rest = command(client, &["redrive", "--all"]).await?;
    ensure!(rest[0]["redriven"] == 3 && rest[0]["notifications"] == 3 && rest[0]["next_after"].is_null(), "{rest}");
    let mut positions = Vec::new();
    for number in 0..EVENTS {
        let history = history(client, number).await?;
        ensure!(notified(&history) == 1, "event {number}: {history}");
        if number.is_multiple_of(3) {
            let ours = history["notifications"].as_array().into_iter().flatten();
            let ours = ours.filter(|notification| notification["projector"] == "hostile");
            positions.extend(ours.filter_map(|notification| notification["position"].as_i64()));
        }
    }
    ensure!(
        positions.len() == 4 && positions.is_sorted(),
        "notifications must be in the order of their events: {positions:?}"
    );
    let again = command(client, &["redrive", "--all"]).await?;
    ensure!(again[0]["tried"] == 0, "{again}");
    let settled = command(client, &["show", &first]).await?;
    ensure!(settled[0]["settled"]["how"] == "redriven" && settled[0]["settled"]["notifications"] == 1, "{settled}");
    Ok(())
}

#[tokio::test]
async fn what_failed_is_tried_again_on_sqlite() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let mut feed = client.feed("from=now", None).await?;
    what_failed_is_tried_again(&client).await?;
    let seen = Client::collect(&mut feed, EVENTS as usize * 2).await?;
    ensure!(seen.len() == EVENTS as usize * 2, "the feed shows redriven notifications like all others");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_failed_is_tried_again_on_postgresql() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let replica = Replica::start(&database, None, &[]).await?;
    what_failed_is_tried_again(&replica.client()).await?;
    // The notifications of the default rule and of the rule that failed, redriven or not.
    ensure!(
        replica.metric("belfry_notifications_total").await? == 2.0 * EVENTS as f64,
        "all notifications are counted"
    );
    Ok(())
}

#[tokio::test]
async fn two_operators_at_once_tell_nobody_twice() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let one = Replica::start(&database, None, &[]).await?;
    let other = Replica::start(&database, None, &[]).await?;
    let client = one.client();
    activate(&client, "reject").await?;
    for number in 0..60 {
        client.post(&event(number)).await?;
    }
    let groups = command(&client, &["list"]).await?;
    ensure!(groups[0]["count"] == 60 && groups[0]["code"] == "no-thanks", "{groups}");
    activate(&client, "notify").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = json!({ "all": true });
    let far = other.client();
    let (mine, theirs) = tokio::try_join!(
        client.post_to("/v1/dead-letters/redrive", &all),
        far.post_to("/v1/dead-letters/redrive", &all)
    )?;
    let redriven = |posted: &Value| posted["redriven"].as_u64().unwrap_or(0);
    ensure!(redriven(&mine.body) + redriven(&theirs.body) == 60, "{mine:?} {theirs:?}");
    for number in 0..60 {
        ensure!(notified(&history(&client, number).await?) == 1);
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_wants_is_discarded_with_a_reason() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    activate(&client, "trap-on-even").await?;
    for number in 0..3 {
        client.post(&event(number)).await?;
    }
    let refused = client.post_to("/v1/dead-letters/discard", &json!({ "reason": "old" })).await?;
    ensure!(refused.status == 400, "a request without a selection: {refused:?}");
    let refused = client.post_to("/v1/dead-letters/discard", &json!({ "all": true })).await?;
    ensure!(refused.status == 400, "a request without a reason: {refused:?}");
    let discarded = command(&client, &["discard", "--cause", "trapped", "--reason", "a test"]).await?;
    ensure!(discarded[0]["dead_letters"] == 1, "{discarded}");
    ensure!(count(&command(&client, &["list"]).await?) == 0);
    activate(&client, "notify").await?;
    let redriven = command(&client, &["redrive", "--all"]).await?;
    ensure!(redriven[0]["tried"] == 0, "{redriven}");
    let history = history(&client, 0).await?;
    ensure!(
        notified(&history) == 0 && count(&history["dead_letters"]) == 1,
        "the event's history keeps its dead letter: {history}"
    );
    service.stop().await;
    Ok(())
}
