//! Events posted over HTTP appear in the feed as today's notifications, field by field.

use anyhow::Result;
use belfry_tests::{Batch, Client, FeedItem, TestService, assessment, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

const SAMPLES: [&str; 4] = [
    include_str!("../../../plugins/teacher-results/cases/events/batch_results_ready.success.json"),
    include_str!("../../../plugins/teacher-results/cases/events/batch_results_ready.with_failures.json"),
    include_str!("../../../plugins/teacher-results/cases/events/batch_assessment_completed.json"),
    include_str!("../../../plugins/teacher-results/cases/events/batch_assessment_completed.empty.json"),
];

/// Returns the notification data that the platform's present service makes of an event. It is derived from that service's
/// rules and uses none of Belfry's code.
fn expected_data(event: &Value) -> Value {
    let data = &event["data"];
    let batch_id = data["batch_id"].as_str().expect("a batch");
    let correlation_id = event.get("correlation_id").unwrap_or(&event["event_id"]);
    let results = event["event_type"] == "huleedu.ras.batch.results.ready.v1";
    let (kind, priority, payload) = if results {
        let phases: serde_json::Map<String, Value> = data["phase_results"]
            .as_object()
            .expect("phases")
            .iter()
            .map(|(name, phase)| {
                let summary = json!({
                    "status": phase["status"],
                    "completed_count": phase["completed_count"],
                    "failed_count": phase["failed_count"],
                    "processing_time_seconds": phase.get("processing_time_seconds"),
                });
                (name.clone(), summary)
            })
            .collect();
        let message = format!(
            "Batch {batch_id} processing completed with {}/{} essays",
            data["completed_essays"], data["total_essays"]
        );
        let payload = json!({
            "batch_id": batch_id, "total_essays": data["total_essays"], "completed_essays": data["completed_essays"],
            "overall_status": data["overall_status"],
            "processing_duration_seconds": data["processing_duration_seconds"].as_f64(),
            "phase_results": phases, "message": message,
        });
        ("batch_results_ready", "high", payload)
    } else {
        let rankings = data["rankings_summary"].as_array().expect("rankings").len();
        let payload = json!({
            "batch_id": batch_id, "assessment_job_id": data["assessment_job_id"], "rankings_available": rankings > 0,
            "rankings_count": rankings,
            "message": format!("Comparative judgment assessment completed for batch {batch_id}"),
        });
        ("batch_assessment_completed", "standard", payload)
    };
    json!({
        "teacher_id": data["user_id"], "notification_type": kind, "category": "processing_results",
        "priority": priority, "payload": payload, "action_required": false, "deadline_timestamp": null,
        "correlation_id": correlation_id, "batch_id": batch_id, "class_id": null,
        "timestamp": event["event_timestamp"],
    })
}

fn assert_todays(event: &Value, item: &FeedItem) {
    assert_eq!(item.kind, "notification");
    assert_eq!(item.data["data"], expected_data(event));
    assert_eq!(item.data["event_type"], "huleedu.notification.teacher.requested.v1");
    assert_eq!(item.data["event_timestamp"], event["event_timestamp"], "timestamps are never rewritten");
    assert_eq!(item.data["source_service"], event["source_service"]);
    assert_eq!(item.data["correlation_id"], item.data["data"]["correlation_id"]);
    assert_eq!(item.data["schema_version"], 1);
    assert_eq!(item.data["data_schema_uri"], Value::Null);
    assert_eq!(item.data["metadata"]["belfry"]["source_event_id"], event["event_id"]);
    assert_eq!(item.data["metadata"].get("partition_key"), None);
    assert!(!item.text.contains('\n'), "the envelope is not one line");
}

#[tokio::test]
async fn the_samples_become_todays_notifications() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let mut feed = client.feed("from=beginning", None).await?;
    for sample in SAMPLES {
        let event: Value = serde_json::from_str(sample)?;
        let posted = client.post_text(sample).await?;
        assert_eq!(posted.status, 201, "{posted:?}");
        let item = Client::collect(&mut feed, 1).await?.remove(0);
        assert_todays(&event, &item);
        assert_eq!(item.data["metadata"]["traceparent"], event["metadata"]["traceparent"]);
        assert_eq!(posted.body["notifications"][0]["event_id"], item.data["event_id"]);
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn derived_ids_are_the_published_ones() -> Result<()> {
    let service = TestService::start().await?;
    let posted = service.client().post_text(SAMPLES[0]).await?;
    assert_eq!(posted.body["notifications"][0]["event_id"], "fe17901f-b267-53fc-ab06-b54d181baae1");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn odd_values_are_carried_as_they_are() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let mut feed = client.feed("from=beginning", None).await?;
    let base = results_ready(&Batch::number(1));
    let with = |number: u64, change: &dyn Fn(&mut Value)| {
        let mut event = base.clone();
        event["event_id"] = json!(Batch::number(number).event_id);
        event["correlation_id"] = json!(Uuid::from_u128(number.into()));
        change(&mut event["data"]);
        event
    };
    let events = [
        with(1, &|data| data["batch_id"] = json!("Bäckströms 班级 \u{1F393} \u{202e}rtl")),
        with(2, &|data| data["batch_id"] = json!("line\nbreak\ttab\u{1}\u{7f}\u{2028}\"quoted\\\"")),
        with(3, &|data| data["batch_id"] = json!("")),
        with(13, &|data| data["user_id"] = json!("")),
        with(14, &|data| data["processing_duration_seconds"] = json!(0.30000000000000004)),
        with(4, &|data| data["total_essays"] = json!(i64::MAX)),
        with(5, &|data| data["completed_essays"] = json!(i64::MIN)),
        with(6, &|data| data["processing_duration_seconds"] = json!(1e300)),
        with(7, &|data| data["processing_duration_seconds"] = json!(412)),
        with(8, &|data| data["phase_results"] = json!({})),
        with(9, &|data| data["unknown"] = json!({ "deep": [1, 2, { "er": null }] })),
        with(10, &|data| data["batch_id"] = json!("x".repeat(20_000))),
        with(11, &|data| {
            let phases = (0..200).map(|number| {
                let phase = json!({ "status": "completed", "completed_count": number, "failed_count": 0 });
                (format!("phase \u{0} {number}/~"), phase)
            });
            data["phase_results"] = phases.collect::<serde_json::Map<_, _>>().into();
        }),
        with(12, &|data| data["overall_status"] = json!("cancelled")),
        assessment(Uuid::from_u128(99), "teacher-ö"),
    ];
    for event in &events {
        let posted = client.post(event).await?;
        assert_eq!(posted.status, 201, "{posted:?}");
        assert_eq!(posted.body["dead_letters"], json!([]), "{posted:?}");
    }
    for (event, item) in events.iter().zip(Client::collect(&mut feed, events.len()).await?) {
        assert_todays(event, &item);
    }
    service.stop().await;
    Ok(())
}
