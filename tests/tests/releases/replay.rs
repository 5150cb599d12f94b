//! Replays of recorded events with a candidate release: each planted difference is found, and none is invented.

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{TEACHER_RESULTS, URGENT_FAILURES, programs};
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Batch, Client, Ended, Replica, TestService, assessment, belfry, results_ready};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// Together with their notifications, more than one page of the log.
const BATCHES: u64 = 2500;
const ASSESSMENTS: u64 = 250;
/// Batches whose number is a multiple of this have failures.
const FAILED: u64 = 10;
const CHANGED: u64 = BATCHES / FAILED;
const ALL: u64 = BATCHES + ASSESSMENTS;

/// Posts batches, some with failures, and assessments in between.
async fn post(client: &Client) -> Result<()> {
    let mut lines = String::new();
    for number in 0..BATCHES {
        let failed = i64::from(number.is_multiple_of(FAILED));
        lines += &format!("{}\n", results_ready(&Batch { failed, ..Batch::number(number) }));
        if number.is_multiple_of(BATCHES / ASSESSMENTS) {
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, &number.to_be_bytes());
            lines += &format!("{}\n", assessment(id, "teacher-anna"));
        }
    }
    let answers = client.post_lines(lines).await?;
    ensure!(answers.len() as u64 == ALL && answers.iter().all(|answer| answer["status"] == "accepted"));
    Ok(())
}

async fn push(client: &Client, component: &'static [u8]) -> Result<String> {
    let pushed = client.push(component, &json!({})).await?;
    Ok(pushed.body["release_id"].as_i64().with_context(|| format!("{pushed:?}"))?.to_string())
}

async fn replay(client: &Client, arguments: &[&str]) -> Result<Ended> {
    let mut all = vec!["--url", client.url(), "--output", "json", "replay", "teacher-results"];
    all.extend(arguments);
    belfry(&all).await
}

async fn report(client: &Client, arguments: &[&str]) -> Result<Value> {
    let ended = replay(client, arguments).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    ended.json()?.pop().context("a report")
}

fn sums(report: &Value) -> [u64; 6] {
    ["baseline", "candidate", "same", "added", "removed", "changed"]
        .map(|name| report["notifications"][name].as_u64().unwrap_or(u64::MAX))
}

/// Checks the reports of several replays. They are the same on both stores.
async fn differences_are_found(client: &Client) -> Result<()> {
    post(client).await?;
    let urgent = push(client, URGENT_FAILURES).await?;
    let forgetful = push(client, programs::FORGETFUL).await?;

    let same = report(client, &["--candidate", "1"]).await?;
    ensure!(sums(&same) == [ALL, ALL, ALL, 0, 0, 0] && same["events"]["differing"] == 0, "{same}");
    ensure!(same["events"]["projected"] == ALL && same["samples"] == json!([]), "{same}");

    // Batches with failures get another priority, a deadline and another message; nothing else changes.
    let changed = report(client, &["--candidate", &urgent]).await?;
    ensure!(sums(&changed) == [ALL, ALL, ALL - CHANGED, 0, 0, CHANGED], "{changed}");
    ensure!(changed["events"]["differing"] == CHANGED, "{changed}");
    let moved = json!([{ "before": "high", "after": "immediate", "count": CHANGED }]);
    ensure!(changed["priority_moves"] == moved, "{changed}");
    let fields: Vec<&str> =
        changed["changed_fields"].as_array().context("fields")?.iter().filter_map(|of| of["field"].as_str()).collect();
    for field in ["priority", "action_required", "deadline", "payload.message"] {
        ensure!(fields.contains(&field), "{field}: {changed}");
    }
    let touched: u64 =
        changed["recipients"].as_array().context("recipients")?.iter().filter_map(|of| of["changed"].as_u64()).sum();
    ensure!(touched == CHANGED && changed["recipients_affected"] == 7, "{changed}");
    let volume = |side: &str| -> u64 {
        changed["volume"].as_array().into_iter().flatten().filter_map(|span| span[side].as_u64()).sum()
    };
    ensure!(volume("baseline") == ALL && volume("candidate") == ALL, "{changed}");

    // A release that ignores assessments and makes all other notifications urgent; then the same in reverse.
    let removed = report(client, &["--candidate", &forgetful]).await?;
    ensure!(sums(&removed) == [ALL, BATCHES, 0, 0, ASSESSMENTS, BATCHES], "{removed}");
    let kinds = removed["kinds"].as_array().context("kinds")?;
    ensure!(kinds.iter().any(|kind| kind["notification_type"] == "batch_assessment_completed"
        && kind["removed"] == ASSESSMENTS
        && kind["changed"] == 0));
    let added = report(client, &["--candidate", "1", "--baseline", &forgetful]).await?;
    ensure!(sums(&added) == [BATCHES, ALL, 0, ASSESSMENTS, 0, BATCHES], "{added}");

    // A sample has about the requested size, and is the same each time.
    let sample = |text: &Value| text["events"]["projected"].as_u64().unwrap_or_default();
    let some = report(client, &["--candidate", &urgent, "--sample", "500"]).await?;
    ensure!((400..600).contains(&sample(&some)), "{some}");
    let again = report(client, &["--candidate", &urgent, "--sample", "500"]).await?;
    ensure!(sums(&some) == sums(&again) && some["samples"] == again["samples"], "{some}\n{again}");
    let about = report(client, &["--candidate", &urgent, "--subject", "teacher-3"]).await?;
    let of_teacher = (0..BATCHES).filter(|number| number % 7 == 3).count() as u64;
    ensure!(sample(&about) == of_teacher, "{about}");

    // Compared with recorded notifications: first only of the release that served then, afterwards also of another one.
    let recorded = report(client, &["--candidate", &urgent, "--baseline", "recorded"]).await?;
    ensure!(sums(&recorded) == [ALL, ALL, ALL - CHANGED, 0, 0, CHANGED], "a replay issued notifications: {recorded}");
    client.activate("teacher-results", urgent.parse()?).await?;
    let later = results_ready(&Batch { failed: 1, ..Batch::number(1_000_000) });
    ensure!(client.post(&later).await?.status == 201);
    let back = report(client, &["--candidate", "1", "--baseline", "recorded"]).await?;
    ensure!(sums(&back) == [ALL + 1, ALL + 1, ALL, 0, 0, 1], "{back}");
    Ok(())
}

#[tokio::test]
async fn planted_differences_are_found_and_none_is_invented_on_sqlite() -> Result<()> {
    let service = TestService::start().await?;
    differences_are_found(&service.client()).await?;
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn planted_differences_are_found_and_none_is_invented_on_postgresql() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let replica = Replica::start(&database, None, &[]).await?;
    differences_are_found(&replica.client()).await
}

#[tokio::test]
async fn a_replay_is_a_gate_for_scripts_and_a_page_for_people() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    // A teacher's id must not become code in the page.
    let teacher = "<script>alert(1)</script>".to_owned();
    for number in 0..20 {
        let batch = Batch { failed: i64::from(number < 5), teacher: teacher.clone(), ..Batch::number(number) };
        ensure!(client.post(&results_ready(&batch)).await?.status == 201);
    }
    let urgent = push(&client, URGENT_FAILURES).await?;
    let directory = TempDir::new()?;
    let page = directory.path().join("report.html");
    let page = page.to_str().context("a path")?;
    let passes = ["--candidate", &urgent, "--fail-on", "removed>0", "--fail-on", "changed>25%", "--html", page];
    ensure!(replay(&client, &passes).await?.code == Some(0));
    let text = std::fs::read_to_string(page)?;
    for word in ["<svg", "batch_results_ready", "&lt;script&gt;alert(1)", "payload.message", "immediate"] {
        ensure!(text.contains(word), "{word}: {text}");
    }
    for word in ["<script", "http://", "https://", "@import", "url("] {
        ensure!(!text.contains(word), "{word}: {text}");
    }
    let stops = replay(&client, &["--candidate", &urgent, "--fail-on", "removed>0", "--fail-on", "changed>=5"]).await?;
    ensure!(stops.code == Some(3) && stops.stderr.contains("changed>=5: 5"), "{stops:?}");
    ensure!(!stops.stdout.is_empty(), "the report is not shown");
    let shown = belfry(&["--url", client.url(), "replay", "teacher-results", "--candidate", &urgent]).await?;
    for word in ["20 events projected", "priority before", "immediate", "recipient affected", "for example"] {
        ensure!(shown.stdout.contains(word), "{word}: {}", shown.stdout);
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_and_one_that_is_left_ends() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let path = "/v1/projectors/teacher-results/replays";
    let body = |candidate: i64, from: &str, to: &str| json!({ "candidate": candidate, "from": from, "to": to });
    let (early, late) = ("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z");
    ensure!(client.post_to(path, &body(1, late, early)).await?.status == 400);
    ensure!(client.post_to(path, &body(1, early, "tomorrow")).await?.status == 400);
    ensure!(client.post_to(path, &body(77, early, late)).await?.status == 404);
    let hostile = client.push(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let other = hostile.body["release_id"].as_i64().context("a release")?;
    let answer = client.post_to(path, &body(other, early, late)).await?;
    ensure!(answer.status == 404 && answer.body["detail"].to_string().contains("not to teacher-results"), "{answer:?}");
    let ended = replay(&client, &["--candidate", "77"]).await?;
    ensure!(ended.code == Some(4), "{ended:?}");

    // One replay runs at a time, and a client that disconnects makes room for the next.
    let slow = client.push(programs::HOSTILE, &json!({ "behaviour": "endless-loop" })).await?;
    let slow = slow.body["release_id"].as_i64().context("a release")?;
    let lines: String = (0..3000).map(|number| format!("{}\n", results_ready(&Batch::number(number)))).collect();
    client.post_lines(lines).await?;
    let wanted = body(slow, "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    let mut wanted = wanted;
    wanted["baseline"] = json!(other);
    let url = format!("{}/v1/projectors/hostile/replays", client.url());
    let running = reqwest::Client::new().post(&url).json(&wanted).send().await?;
    ensure!(running.status() == 200);
    let second = client.post_to("/v1/projectors/hostile/replays", &wanted).await?;
    ensure!(second.status == 503, "{second:?}");
    drop(running);
    belfry_tests::eventually(
        "there is room again",
        async || Ok(client.post_to(path, &body(1, early, late)).await.map_or(503, |answer| answer.status.as_u16())),
        |status| *status == 200,
    )
    .await?;
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_candidate_that_fails_is_counted_and_not_suspended() -> Result<()> {
    let service = TestService::start_with(TEACHER_RESULTS, &[]).await?;
    let client = service.client();
    let good = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    for number in 0..50 {
        ensure!(client.post(&results_ready(&Batch::number(number))).await?.status == 201);
    }
    let bad = client.push(programs::HOSTILE, &json!({ "behaviour": "trap" })).await?;
    let bad = bad.body["release_id"].to_string();
    let arguments = ["--url", client.url(), "--output", "json", "replay", "hostile", "--candidate", &bad];
    let ended = belfry(&[&arguments[..], &["--fail-on", "failures>0"]].concat()).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    let report = ended.json()?.pop().context("a report")?;
    ensure!(report["not_projected"] == json!({ "baseline": {}, "candidate": { "trapped": 50 } }), "{report}");
    ensure!(report["notifications"]["removed"] == 50, "{report}");
    let projectors = client.get("/v1/projectors").await?.body;
    ensure!(projectors["projectors"][0]["active"]["release_id"] == good["release_id"], "{projectors}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_release_serves_only_after_a_replay_where_that_is_asked_for() -> Result<()> {
    let service = TestService::start_with(TEACHER_RESULTS, &[("releases.require_replay_hours", "1")]).await?;
    let client = service.client();
    for number in 0..20 {
        client.post(&results_ready(&Batch::number(number))).await?;
    }
    let urgent = push(&client, URGENT_FAILURES).await?;
    let activate = async |release: &str| belfry(&["--url", client.url(), "release", "activate", release]).await;
    let refused = activate(&urgent).await?;
    ensure!(refused.code == Some(5) && refused.stderr.contains("was not replayed"), "{refused:?}");
    let canary = ["--url", client.url(), "trial", "canary", &urgent];
    let refused = belfry(&canary).await?;
    ensure!(refused.code == Some(5) && refused.stderr.contains("belfry replay teacher-results"), "{refused:?}");
    // A shadow sends no notifications.
    let shadow = belfry(&["--url", client.url(), "trial", "shadow", &urgent]).await?;
    ensure!(shadow.code == Some(0), "{shadow:?}");
    // Another release's replay does not count.
    let forgetful = push(&client, programs::FORGETFUL).await?;
    report(&client, &["--candidate", &forgetful]).await?;
    ensure!(activate(&urgent).await?.code == Some(5));
    report(&client, &["--candidate", &urgent]).await?;
    let noted = client.get("/v1/audit-log?action=release.replay&limit=1").await?.body["changes"][0].clone();
    ensure!(noted["detail"]["events"] == 20 && noted["detail"]["baseline_id"] == 1, "{noted}");
    let taken = activate(&urgent).await?;
    ensure!(taken.code == Some(0), "{taken:?}");
    // Its replay compared it with a release that no longer serves.
    let refused = activate(&forgetful).await?;
    ensure!(refused.code == Some(5), "{refused:?}");
    // A release that has served may serve again at any time.
    let back = belfry(&["--url", client.url(), "release", "rollback", "teacher-results"]).await?;
    ensure!(back.code == Some(0), "{back:?}");
    ensure!(activate(&urgent).await?.code == Some(0));
    service.stop().await;
    Ok(())
}
