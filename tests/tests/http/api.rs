//! The guarantees of the HTTP API.

use anyhow::Result;
use belfry_artifacts::{URGENT_FAILURES, programs};
use belfry_tests::{Batch, Client, TestService, assessment, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) fn event(number: u64) -> Value {
    results_ready(&Batch::number(number))
}

#[tokio::test]
async fn a_repeated_event_has_no_second_effect() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let first = client.post(&event(1)).await?;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (201, &json!("accepted")));
    assert_eq!(first.body["position"], 1);

    // Producers generate a new timestamp, and the whitespace of JSON may differ.
    let mut again = event(1);
    again["data"]["timestamp"] = json!("2027-01-01T00:00:00Z");
    let again = client.post_text(serde_json::to_string_pretty(&again)?).await?;
    assert_eq!((again.status.as_u16(), &again.body["status"]), (200, &json!("duplicate")));
    assert_eq!(again.body["position"], 1);

    let history = client.get(&format!("/v1/events/{}", Batch::number(1).event_id)).await?;
    assert_eq!(history.body["notifications"].as_array().map(Vec::len), Some(1));
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_same_id_with_other_content_is_a_conflict() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    client.post(&event(1)).await?;
    let mut other = event(1);
    other["data"]["completed_essays"] = json!(3);
    let conflict = client.post(&other).await?;
    assert_eq!(conflict.status, 409);
    assert_eq!(conflict.body["type"], "urn:belfry:problem:conflicting-event");
    assert_eq!(conflict.body["event_id"], event(1)["event_id"]);
    // Also within one body, when neither event was recorded before.
    let mut twin = event(2);
    twin["data"]["user_id"] = json!("somebody else");
    let lines = client.post_lines(format!("{}\n{}\n{}\n", event(2), twin, event(2))).await?;
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(statuses, ["accepted", "conflict", "duplicate"]);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn malformed_events_are_refused_with_a_pointer() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let mut without_batch = event(1);
    without_batch["data"].as_object_mut().expect("data is not an object").remove("batch_id");
    let mut text_for_number = event(1);
    text_for_number["data"]["phase_results"]["spellcheck"]["failed_count"] = json!("0");
    let mut nul = event(1);
    nul["data"]["user_id"] = json!("a\u{0}b");
    let mut no_time = event(1);
    no_time["event_timestamp"] = json!("yesterday");
    for (text, pointer) in [
        (without_batch.to_string(), "/data/batch_id"),
        (text_for_number.to_string(), "/data/phase_results/spellcheck/failed_count"),
        (nul.to_string(), "/data/user_id"),
        (no_time.to_string(), "/event_timestamp"),
        ("{\"event_id\":".to_owned(), ""),
        ("[]".to_owned(), ""),
        ("{}".to_owned(), "/event_id"),
        (event(1).to_string().replace("12.5", "NaN"), ""),
    ] {
        let refused = client.post_text(text.clone()).await?;
        assert_eq!(refused.status, 400, "{text}");
        assert_eq!(refused.body["type"], "urn:belfry:problem:malformed-event", "{text}");
        assert_eq!(refused.body["pointer"], pointer, "{text}: {}", refused.body);
    }
    let large = client.post_text(format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))).await?;
    assert_eq!((large.status.as_u16(), &large.body["type"]), (413, &json!("urn:belfry:problem:event-too-large")));
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_good_in_a_batch_is_kept() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let text = format!("{}\n\nnot json\n{}\r\n{}", event(1), event(1), event(2));
    let lines = client.post_lines(text).await?;
    let statuses: Vec<_> = lines.iter().map(|line| (line["line"].as_i64(), line["status"].as_str())).collect();
    assert_eq!(
        statuses,
        [
            (Some(1), Some("accepted")),
            (Some(3), Some("malformed")),
            (Some(4), Some("duplicate")),
            (Some(5), Some("accepted"))
        ]
    );
    assert_eq!(lines[2]["position"], lines[0]["position"], "a duplicate reports the position of the original");
    let again = client.post_lines(event(2).to_string()).await?;
    assert_eq!((&again[0]["status"], &again[0]["position"]), (&json!("duplicate"), &lines[3]["position"]));
    assert_eq!(lines[1]["problem"]["type"], "urn:belfry:problem:malformed-event");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_large_batch_keeps_its_order() -> Result<()> {
    const EVENTS: u64 = 2000;
    let service = TestService::start().await?;
    let client = service.client();
    let body: String = (0..EVENTS).map(|number| format!("{}\n", event(number))).collect();
    let lines = client.post_lines(body).await?;
    assert_eq!(lines.len(), EVENTS as usize);
    let positions: Vec<_> = lines.iter().map(|line| line["position"].as_i64().expect("no position")).collect();
    assert!(positions.is_sorted(), "the log keeps the order of the lines");
    let mut feed = client.feed("from=beginning", None).await?;
    let items = Client::collect(&mut feed, EVENTS as usize).await?;
    for (number, item) in (0..EVENTS).zip(items) {
        assert_eq!(item.data["metadata"]["belfry"]["source_event_id"], json!(Batch::number(number).event_id));
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_failing_rule_costs_only_its_own_notifications() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let hostile = client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "trap" })).await?;
    let posted = client.post(&event(1)).await?;
    assert_eq!(posted.status, 201);
    assert_eq!(posted.body["notifications"][0]["projector"], "teacher-results");
    assert_eq!(posted.body["dead_letters"][0]["projector"], "hostile");
    assert_eq!(posted.body["dead_letters"][0]["cause"], "trapped");

    let history = client.get(&format!("/v1/events/{}", Batch::number(1).event_id)).await?.body;
    let outcomes: Vec<_> = history["projections"]
        .as_array()
        .expect("no projections")
        .iter()
        .map(|made| (made["projector"].as_str(), made["outcome"].as_str(), made["count"].as_i64()))
        .collect();
    let expected =
        [(Some("hostile"), Some("trapped"), Some(0)), (Some("teacher-results"), Some("notifications"), Some(1))];
    assert_eq!(outcomes, expected);
    assert_eq!(history["dead_letters"][0]["release"], hostile["label"]);
    let metrics = service.metrics().await?;
    assert!(metrics.contains("belfry_dead_letters_total{projector=\"hostile\",cause=\"trapped\"}"), "{metrics}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn unknown_event_types_are_recorded_and_offered_to_those_who_subscribe() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let other = json!({
        "event_id": Uuid::from_u128(7), "event_type": "acme.school.closed.v1", "source_service": "acme",
        "event_timestamp": "2026-03-02T09:15:01", "data": ["anything", { "at": "all" }], "extra": { "kept": true }
    });
    let posted = client.post(&other).await?;
    assert_eq!((posted.status.as_u16(), &posted.body["notifications"]), (201, &json!([])));
    let history = client.get(&format!("/v1/events/{}", Uuid::from_u128(7))).await?.body;
    assert_eq!(history["event"], other, "unknown fields are kept");
    assert_eq!(history["projections"], json!([]));

    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "notify" })).await?;
    let mut offered = other.clone();
    offered["event_id"] = json!(Uuid::from_u128(8));
    offered["event_type"] = json!("test.hostile.v1");
    let posted = client.post(&offered).await?;
    assert_eq!(posted.body["notifications"][0]["recipient"], "teacher-1");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_notification_whose_time_has_passed_is_withheld_with_the_reason() -> Result<()> {
    let service = TestService::start_with(programs::HOSTILE, &[]).await?;
    let client = service.client();
    client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": "expired" })).await?;
    let posted = client.post(&event(1)).await?;
    assert_eq!(posted.body["notifications"], json!([]));
    let history = client.get(&format!("/v1/events/{}", Batch::number(1).event_id)).await?.body;
    assert_eq!(history["withheld"][0]["reason"], "expired");
    let id = history["withheld"][0]["event_id"].as_str().expect("no id");
    let notification = client.get(&format!("/v1/notifications/{id}")).await?.body;
    assert_eq!((&notification["status"], &notification["reason"]), (&json!("withheld"), &json!("expired")));
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn clients_receive_the_thread_of_a_notification() -> Result<()> {
    let service = TestService::start_with(programs::HOSTILE, &[]).await?;
    let client = service.client();
    for (number, behaviour, thread) in [(1, "notify", Value::Null), (2, "threaded", json!("batch:1"))] {
        client.push_and_activate(programs::HOSTILE, &json!({ "behaviour": behaviour })).await?;
        let posted = client.post(&event(number)).await?;
        let id = posted.body["notifications"][0]["event_id"].as_str().expect("no id");
        let notification = client.get(&format!("/v1/notifications/{id}")).await?.body;
        assert_eq!(notification["message"]["metadata"]["belfry"]["thread"], thread, "{notification}");
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_rule_is_swapped_without_a_restart_and_back() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let mut feed = client.feed("from=now&projector=teacher-results", None).await?;
    let failing = |number: u64| results_ready(&Batch { failed: 3, ..Batch::number(number) });
    client.post(&failing(1)).await?;
    let urgent = client.push_and_activate(URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    client.post(&failing(2)).await?;
    let back = client.post_to("/v1/projectors/teacher-results/rollback", &json!(null)).await?;
    assert_eq!(back.status, 200, "{back:?}");
    client.post(&failing(3)).await?;

    let items = Client::collect(&mut feed, 3).await?;
    let priorities: Vec<_> = items.iter().map(|item| item.data["data"]["priority"].as_str()).collect();
    assert_eq!(priorities, [Some("high"), Some("immediate"), Some("high")]);
    assert_eq!(items[1].data["data"]["deadline_timestamp"], "2026-03-02T11:15:01Z");
    assert_eq!(items[1].data["metadata"]["belfry"]["release"], urgent["label"]);
    assert_eq!(back.body["previous_release_id"], urgent["release_id"]);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn releases_are_immutable() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let first = client.push(URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    assert_eq!(first.status, 201);
    let same = client.push(URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    assert_eq!((same.status.as_u16(), &same.body["release_id"]), (200, &first.body["release_id"]));
    let other_config = client.push(URGENT_FAILURES, &json!({ "deadline_hours": 3 })).await?;
    assert_eq!(other_config.status, 201);
    assert_ne!(other_config.body["release_id"], first.body["release_id"]);

    let unknown = client.push(URGENT_FAILURES, &json!({ "dead_line": 2 })).await?;
    assert_eq!((unknown.status.as_u16(), &unknown.body["type"]), (422, &json!("urn:belfry:problem:bad-configuration")));
    let refused = client.push(URGENT_FAILURES, &json!({ "deadline_hours": -1 })).await?;
    assert_eq!(refused.status, 422, "the rule itself rejects the configuration: {refused:?}");
    let forbidden = client.push(programs::FORBIDDEN_IMPORT, &json!({})).await?;
    assert_eq!(forbidden.body["type"], "urn:belfry:problem:forbidden-import");
    let missing = client.post_to("/v1/projectors/teacher-results/rollout", &json!({ "release_id": 999 })).await?;
    assert_eq!((missing.status.as_u16(), &missing.body["type"]), (404, &json!("urn:belfry:problem:unknown-release")));
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_restart_changes_nothing() -> Result<()> {
    let service = TestService::start().await?;
    service.client().post(&event(1)).await?;
    let urgent = service.client().push_and_activate(URGENT_FAILURES, &json!({})).await?;
    let service = service.restart().await?;
    let client = service.client();
    let projectors = client.get("/v1/projectors").await?.body;
    assert_eq!(projectors["projectors"][0]["active"]["label"], urgent["label"]);
    assert_eq!(client.post(&event(1)).await?.body["status"], "duplicate");
    let posted = client.post(&event(2)).await?;
    assert_eq!(posted.body["position"], 3, "positions continue after the last one");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_feed_resumes_where_it_was_and_filters() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    for number in 0..20 {
        client.post(&event(number)).await?;
    }
    let mut all = client.feed("from=beginning", None).await?;
    let items = Client::collect(&mut all, 20).await?;
    let mut resumed = client.feed("from=beginning", Some(items[9].position)).await?;
    assert_eq!(Client::collect(&mut resumed, 10).await?, items[10..]);
    let mut filtered = client.feed("from=beginning&recipient=teacher-3", None).await?;
    let of_one = Client::collect(&mut filtered, 3).await?;
    assert!(of_one.iter().all(|item| item.data["data"]["teacher_id"] == "teacher-3"));
    client.post(&assessment(Uuid::from_u128(1), "teacher-3")).await?;
    let live = Client::collect(&mut filtered, 1).await?;
    assert_eq!(live[0].data["data"]["notification_type"], "batch_assessment_completed");

    let beyond = client.feed("", Some(100_000)).await.map(|_| ()).expect_err("the position is beyond the log");
    assert!(beyond.to_string().contains("position-retired"), "{beyond}");
    service.stop().await;
    let closed = Client::collect(&mut resumed, 2).await?;
    assert_eq!(
        closed.last().map(|item| (item.kind.as_str(), item.data.clone())),
        Some(("closed", json!({ "reason": "shutdown" })))
    );
    Ok(())
}

#[tokio::test]
async fn a_notification_names_its_cause() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let posted = client.post(&event(1)).await?;
    let id = posted.body["notifications"][0]["event_id"].as_str().expect("no id");
    let notification = client.get(&format!("/v1/notifications/{id}")).await?.body;
    assert_eq!(notification["cause"]["event_id"], event(1)["event_id"]);
    assert_eq!(notification["release"], "teacher-results@1.0.0#1");
    assert_eq!(notification["message"]["data"]["teacher_id"], notification["recipient"]);
    assert_eq!(client.get("/v1/notifications/00000000-0000-0000-0000-000000000000").await?.status, 404);
    assert_eq!(client.get("/v1/nothing").await?.body["type"], "urn:belfry:problem:not-found");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_feed_may_be_resumed_as_event_sources_do_it() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    for number in 0..3 {
        client.post(&event(number)).await?;
    }
    let mut all = client.feed("from=beginning&lastEventId=", None).await?;
    let items = Client::collect(&mut all, 3).await?;
    let mut resumed = client.feed(&format!("from=beginning&lastEventId={}", items[0].position), None).await?;
    assert_eq!(Client::collect(&mut resumed, 2).await?, items[1..]);
    let url = format!("{}/v1/feed", client.url());
    let empty = reqwest::Client::new().get(&url).header("last-event-id", "").send().await?;
    assert_eq!((empty.status().as_u16(), &empty.headers()["x-accel-buffering"]), (200, &"no".parse()?));
    drop((all, resumed, empty));
    service.stop().await;
    Ok(())
}
