//! The audit log records every change and its author.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use belfry_artifacts::programs;
use belfry_service::http::routes;
use belfry_tests::{Client, TestService, belfry};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

/// Routes that accept events or run rules without effect. They do not change the behaviour of Belfry.
const NO_CHANGES: [&str; 3] = ["/v1/events", "/v1/events/{event_id}/rerun", "/v1/projectors/{name}/replays"];

async fn release(client: &Client, behaviour: &str) -> Result<i64> {
    let pushed = client.push(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
    pushed.body["release_id"].as_i64().context("no release id")
}

async fn latest(client: &Client) -> Result<Value> {
    Ok(client.get("/v1/audit-log?limit=1").await?.body["changes"][0].clone())
}

/// Adds a sink that has no relay and has missed an entry.
async fn a_sink_that_is_gone(service: &TestService) -> Result<()> {
    let mut connection = SqliteConnection::connect(&service.config().store.url).await?;
    sqlx::raw_sql("INSERT INTO relay (sink, position, began_after) VALUES ('gone', -1, -1)")
        .execute(&mut connection)
        .await?;
    Ok(())
}

#[tokio::test]
async fn every_route_that_changes_something_is_noted() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    a_sink_that_is_gone(&service).await?;
    let first = release(&client, "notify").await?;
    ensure!(latest(&client).await?["action"] == "release.push", "pushing a release is recorded");
    let second = release(&client, "reject").await?;
    let other = json!({ "release_id": second });
    let shadow = json!({ "release_id": second, "mode": "shadow" });
    let steps = json!([{ "percent": 50.0, "seconds": 3600, "events": 1 }]);
    let canary = json!({ "release_id": second, "mode": "canary", "steps": steps });
    let why = json!({ "reason": "a test" });
    let which = json!({ "all": true, "reason": "a test" });
    let all = json!({ "all": true });
    let token = json!({ "name": "ci", "role": "viewer" });
    // In an order in which each step is possible.
    let steps: [(&str, &str, &Value, &str); 18] = [
        ("/v1/rollout", "/v1/rollout", &json!({ "release_ids": [first] }), "release.activate"),
        ("/v1/projectors/{name}/trial", "/v1/projectors/hostile/trial", &shadow, "trial.shadow"),
        ("/v1/projectors/{name}/trial", "/v1/projectors/hostile/trial", &canary, "trial.canary"),
        ("/v1/projectors/{name}/trial/end", "/v1/projectors/hostile/trial/end", &why, "trial.end"),
        ("/v1/projectors/{name}/rollout", "/v1/projectors/hostile/rollout", &other, "release.activate"),
        ("/v1/projectors/{name}/rollback", "/v1/projectors/hostile/rollback", &json!({}), "release.rollback"),
        ("/v1/pauses/{kind}/{name}", "/v1/pauses/projector/hostile", &why, "pause.begin"),
        ("/v1/pauses/{kind}/{name}/resume", "/v1/pauses/projector/hostile/resume", &json!({}), "pause.end"),
        ("/v1/dead-letters/redrive", "/v1/dead-letters/redrive", &all, "dead-letter.redrive"),
        ("/v1/dead-letters/discard", "/v1/dead-letters/discard", &which, "dead-letter.discard"),
        ("/v1/parked/unpark", "/v1/parked/unpark", &all, "parked.unpark"),
        ("/v1/parked/discard", "/v1/parked/discard", &which, "parked.discard"),
        ("/v1/projectors/{name}/retire", "/v1/projectors/hostile/retire", &why, "release.retire"),
        ("/v1/sinks/{name}/resume", "/v1/sinks/gone/resume", &why, "sink.resume"),
        ("/v1/sinks/{name}/forget", "/v1/sinks/gone/forget", &why, "sink.forget"),
        ("/v1/tokens", "/v1/tokens", &token, "token.create"),
        ("/v1/tokens/{name}/revoke", "/v1/tokens/ci/revoke", &json!({}), "token.revoke"),
        ("/v1/releases", "", &json!({}), "release.push"),
    ];
    for (_, path, body, action) in &steps[..17] {
        let before = latest(&client).await?["id"].as_i64();
        let done = reqwest::Client::new().post(format!("{}{path}", client.url())).json(body).send().await?;
        ensure!(done.status().is_success(), "{path}: {}", done.text().await?);
        let noted = latest(&client).await?;
        ensure!(noted["id"].as_i64() > before, "{path} was not recorded");
        ensure!(noted["action"] == *action && noted["by"] == "local", "{path}: {noted}");
    }
    let shown: BTreeSet<&str> = steps.iter().map(|(route, ..)| *route).chain(NO_CHANGES).collect();
    let changing = routes().into_iter().filter(|route| route.method == Method::POST).map(|route| route.path);
    ensure!(shown == changing.collect(), "the steps must cover every route that changes something");
    let redrive = belfry(&["--url", client.url(), "--output", "json", "audit-log", "--action", "dead-letter"]).await?;
    let lines = redrive.json()?;
    ensure!(lines.len() == 2 && lines[0]["action"] == "dead-letter.discard", "{lines:?}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_belfry_does_by_itself_is_noted_as_its_own() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "trap" })).await?;
    for number in 0..250 {
        client.post(&belfry_tests::results_ready(&belfry_tests::Batch::number(number))).await?;
    }
    let noted = client.get("/v1/audit-log?by=belfry").await?.body;
    let suspended = noted["changes"].as_array().into_iter().flatten().find(|one| one["action"] == "release.suspend");
    let suspended = suspended.with_context(|| noted.to_string())?;
    ensure!(suspended["detail"]["reason"].is_string(), "{suspended}");
    service.stop().await;
    Ok(())
}
