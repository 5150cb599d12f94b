//! The origin of a notification, and whether its event leads to the same notification again.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::servers::{Database, shared_postgres};
use belfry_tests::{Batch, Client, Ended, Replica, TestService, belfry, eventually, results_ready};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

async fn explain(client: &Client, id: &str, rerun: bool) -> Result<(Ended, Value)> {
    let rerun: &[&str] = if rerun { &["--rerun"] } else { &[] };
    let ended = belfry(&[&["--url", client.url(), "--output", "json", "explain", id], rerun].concat()).await?;
    let value = ended.json()?.into_iter().next().with_context(|| format!("{ended:?}"))?;
    Ok((ended, value))
}

fn id(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is not an id"))?.to_owned())
}

/// Posts an event. Returns its id and the id of the notification from the rule `hostile`.
async fn post(client: &Client, event: &Value) -> Result<(String, String)> {
    client.post(event).await?;
    let event_id = id(&event["event_id"])?;
    let history = client.get(&format!("/v1/events/{event_id}")).await?.body;
    let notifications = history["notifications"].as_array().into_iter().flatten();
    let ours = notifications.into_iter().find(|notification| notification["projector"] == "hostile");
    Ok((event_id, id(&ours.with_context(|| history.to_string())?["event_id"])?))
}

/// Changes a notification in the log, so that it differs from the rule's answer.
async fn tamper(database: &Database, notification_id: &str) -> Result<()> {
    let mut owner = PgConnection::connect(&database.url).await?;
    let changed = sqlx::query(
        "UPDATE belfry.outbox SET payload = convert_to(regexp_replace(convert_from(payload, 'UTF8'), \
           '\"priority\":\\s*\"[a-z]+\"', '\"priority\":\"critical\"'), 'UTF8') WHERE event_id = $1::text::uuid",
    )
    .bind(notification_id)
    .execute(&mut owner)
    .await?;
    ensure!(changed.rows_affected() == 1, "the notification is not in the log");
    Ok(())
}

#[tokio::test]
async fn a_notification_tells_its_whole_story() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let replica = Replica::start(&database, None, &[("sink.stdout.enabled", "true".into())]).await?;
    let client = replica.client();
    let release = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let mut event = results_ready(&Batch::number(1));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    event["metadata"] = json!({ "traceparent": trace });
    let (event_id, notification_id) = post(&client, &event).await?;
    let story = eventually(
        "the sink acknowledged the notification",
        async || Ok(explain(&client, &notification_id, true).await?.1),
        |story| story["notification"]["deliveries"][0]["state"] == "acknowledged",
    )
    .await?;
    let notification = &story["notification"];
    ensure!(
        notification["deliveries"][0]["sink"] == "stdout" && notification["deliveries"][0]["at"].is_string(),
        "{notification}"
    );
    ensure!(
        notification["cause"]["event_id"] == json!(event_id) && notification["cause"]["traceparent"] == trace,
        "{notification}"
    );
    let made_by = &notification["made_by"];
    ensure!(made_by["digest"] == release["digest"] && made_by["config"]["behaviour"] == "notify", "{made_by}");
    ensure!(made_by["activated_by"] == "local" && made_by["canary"] == false, "{made_by}");
    ensure!(made_by["contract"].as_str().is_some_and(|contract| contract.contains('@')), "{made_by}");
    ensure!(
        story["reruns"].as_array().is_some_and(|reruns| reruns.iter().all(|rerun| rerun["same"] == true)),
        "{story}"
    );
    let spoken = belfry(&["--url", client.url(), "explain", "--rerun", &notification_id]).await?;
    for part in ["activated by local", "stdout: acknowledged by", trace, "contract belfry", "the same"] {
        ensure!(spoken.stdout.contains(part), "{part:?} is not in\n{}", spoken.stdout);
    }
    tamper(&database, &notification_id).await?;
    let (ended, story) = explain(&client, &event_id, true).await?;
    ensure!(ended.code == Some(3), "a difference is a failed check: {ended:?}");
    let reruns = story["reruns"].as_array().context("no reruns")?;
    let hostile = reruns.iter().find(|rerun| rerun["projector"] == "hostile").context("no rerun of hostile")?;
    ensure!(
        hostile["same"] == false && hostile["differences"][0]["notification_id"] == json!(notification_id),
        "{hostile}"
    );
    let field = &hostile["differences"][0]["fields"][0];
    ensure!(field["field"] == "priority" && field["before"] == "critical", "{hostile}");
    let others = reruns.iter().filter(|rerun| rerun["projector"] != "hostile");
    ensure!(others.into_iter().all(|rerun| rerun["same"] == true), "{story}");
    Ok(())
}

#[tokio::test]
async fn each_release_is_run_again_for_what_it_made() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "reject" })).await?;
    let event = results_ready(&Batch::number(1));
    client.post(&event).await?;
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let redriven = client.post_to("/v1/dead-letters/redrive", &json!({ "all": true })).await?;
    ensure!(redriven.body["redriven"] == 1, "{redriven:?}");
    let event_id = id(&event["event_id"])?;
    let (ended, story) = explain(&client, &event_id, true).await?;
    let ours: Vec<&Value> =
        story["reruns"].as_array().into_iter().flatten().filter(|rerun| rerun["projector"] == "hostile").collect();
    ensure!(ours.len() == 2 && ours.iter().all(|rerun| rerun["same"] == true), "{story}");
    ensure!(ours[0]["then"] == "rejected" && ours[1]["then"] == "notifications", "{story}");
    ensure!(ended.code == Some(0), "{ended:?}");
    // While notifications are muted, none is issued, but a rerun still gets the same answer.
    let muted = belfry(&["--url", client.url(), "pause", "notifications", "--reason", "a drill"]).await?;
    ensure!(muted.code == Some(0), "{muted:?}");
    let event = results_ready(&Batch::number(2));
    client.post(&event).await?;
    let (_, story) = explain(&client, &id(&event["event_id"])?, true).await?;
    let reruns = story["reruns"].as_array().context("no reruns")?;
    ensure!(reruns.iter().all(|rerun| rerun["same"] == true) && !reruns.is_empty(), "{story}");
    let unknown = client.post_to("/v1/events/5b7f2e0a-8f9c-4a1e-9d5e-0f3c2b1a4d6e/rerun", &json!({})).await?;
    ensure!(unknown.status == 404, "{unknown:?}");
    service.stop().await;
    Ok(())
}
