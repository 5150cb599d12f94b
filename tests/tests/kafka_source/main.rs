//! Events from a real Kafka broker: each is recorded and projected once, whatever happens meanwhile.

mod away;
mod identity;
mod poison;
mod refusals;
mod replicas;
mod setup;
mod stopped;

use anyhow::{Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::{Batch, results_ready};
use rdkafka::Offset;
use serde_json::{Value, json};
use setup::{Setup, metric, until};

const EVENTS: &str = "belfry_events_total{source=\"kafka\",outcome=";

#[tokio::test]
async fn what_a_busy_host_cannot_project_is_read_again_and_no_dead_letter() -> Result<()> {
    let setup = Setup::new(2).await?;
    setup.start().await?.terminate().await?;
    setup.produce_numbers(0..40).await?;
    // Nine calls are delayed beyond the time limit of each of the three attempts per event.
    let belfry = setup.start_with(&[("FAILPOINTS", "project.call=9*sleep(800)")]).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(40).await?;
    ensure!(setup.count("belfry.dead_letter").await? == 0);
    ensure!(metric(&belfry, "belfry_starved_total{projector=\"teacher-results\"}").await? > 0.0);
    ensure!(belfry.log()?.contains("too busy"), "the log shows the reason");
    belfry.terminate().await
}

#[tokio::test]
async fn events_are_recorded_and_projected_once() -> Result<()> {
    let setup = Setup::new(3).await?;
    setup.produce_numbers(0..300).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    // The same records again, and then the same events with another timestamp.
    setup.produce_numbers(0..50).await?;
    for number in 50..60 {
        let mut event = results_ready(&Batch::number(number));
        event["data"]["timestamp"] = json!("2026-03-02T09:15:02Z");
        setup.produce(&event).await?;
    }
    setup.all_is_read().await?;
    setup.each_is_recorded_once(300).await?;

    let high: Vec<Offset> = setup.watermarks().await?.iter().map(|(_, high)| Offset::Offset(*high)).collect();
    until("the offsets are committed to Kafka", async || Ok(setup.offsets().await? == high)).await?;
    ensure!(metric(&belfry, &format!("{EVENTS}\"accepted\"}}")).await? == 300.0);
    ensure!(metric(&belfry, &format!("{EVENTS}\"duplicate\"}}")).await? == 60.0);
    ensure!(metric(&belfry, "kafka_duplicate_events_total").await? == 60.0);
    ensure!(metric(&belfry, "partition_key_resolution_seconds_count").await? >= 300.0);
    ensure!(metric(&belfry, "kafka_event_headers_missing_total{header=\"event_id\"}").await? == 0.0);
    let lag = format!("belfry_consumer_lag{{topic=\"{}\",partition=\"0\"}}", setup.topic);
    until("the lag is known", async || Ok(belfry.metrics().await?.contains(&lag))).await?;
    belfry.terminate().await?;

    // After a restart, nothing is read twice, and new records are read.
    setup.produce_numbers(300..310).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(310).await?;
    ensure!(metric(&belfry, &format!("{EVENTS}\"accepted\"}}")).await? == 10.0);
    ensure!(metric(&belfry, &format!("{EVENTS}\"duplicate\"}}")).await? == 0.0);
    belfry.terminate().await
}

#[tokio::test]
async fn events_are_recorded_and_projected_once_on_sqlite() -> Result<()> {
    let setup = Setup::embedded(2).await?;
    setup.produce_numbers(0..40).await?;
    setup.produce_numbers(0..10).await?;
    for _ in 0..2 {
        let belfry = setup.start().await?;
        let client = belfry.client();
        let mut feed = client.feed("from=beginning", None).await?;
        let mut notifications: Vec<Value> = belfry_tests::Client::collect(&mut feed, 40)
            .await?
            .into_iter()
            .map(|item| item.data["event_id"].clone())
            .collect();
        notifications.sort_by_key(Value::to_string);
        notifications.dedup();
        ensure!(notifications.len() == 40, "{} different notifications", notifications.len());
        belfry.terminate().await?;
    }
    let shown = setup.belfry(&["position", "show", "--output", "json"]).await?;
    ensure!(shown.code == Some(0) && shown.stdout.lines().count() == 2, "{}{}", shown.stdout, shown.stderr);
    for line in shown.stdout.lines() {
        let row: Value = serde_json::from_str(line)?;
        ensure!(row["lag"] == 0 && row["position"] == row["high"], "{row}");
    }
    Ok(())
}

/// Writes invalid records before, between and after events.
#[tokio::test]
async fn what_is_no_event_becomes_a_dead_letter_and_the_partition_goes_on() -> Result<()> {
    let setup = Setup::new(1).await?;
    let poison = |text: &'static str| setup.kafka.produce(&setup.topic, None, &[], Some(text.as_bytes()));
    poison("not JSON").await?;
    setup.produce_numbers(0..5).await?;
    poison("{\"event_id\": 7}").await?;
    let id = Batch::number(1).event_id.to_string();
    setup.kafka.produce(&setup.topic, Some(b"batch-1"), &[("event_id", id.as_bytes())], None).await?;
    let event = results_ready(&Batch::number(5)).to_string();
    setup.kafka.produce(&setup.topic, None, &[("event_id", id.as_bytes())], Some(event.as_bytes())).await?;
    let mut other = results_ready(&Batch::number(2));
    other["data"]["overall_status"] = json!("failed");
    setup.produce(&other).await?;
    let mut large = results_ready(&Batch::number(6));
    large["data"]["padding"] = json!("x".repeat(3000));
    setup.produce(&large).await?;
    setup.produce_numbers(7..10).await?;
    poison("").await?;

    let belfry = setup.start_with(&[("ingest.max_event_bytes", "2000")]).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(8).await?;
    // The topic, partition and offset of an event are recorded and shown.
    let id = Batch::number(7).event_id.to_string();
    let explained = belfry.client().get(&format!("/v1/events/{id}")).await?;
    let source = explained.body["source"].as_str().unwrap_or_default();
    ensure!(source.starts_with(&format!("{}/0@1", setup.topic)), "{explained:?}");
    let causes = "SELECT source_offset || ' ' || cause || ' ' || (event_id IS NOT NULL) || ' ' || octet_length(payload) \
                  FROM belfry.dead_letter WHERE source_topic IS NOT NULL AND source_partition = 0 ORDER BY source_offset";
    let buried: Vec<String> = setup.query(causes).await?;
    let expected = [
        "0 undecodable false 8".to_owned(),
        "6 malformed false 15".to_owned(),
        format!("8 malformed true {}", event.len()),
        format!("9 conflict true {}", other.to_string().len()),
        format!("10 malformed true {}", large.to_string().len()),
        "14 undecodable false 0".to_owned(),
    ];
    ensure!(buried == expected, "{buried:?}");
    ensure!(metric(&belfry, &format!("{EVENTS}\"conflict\"}}")).await? == 1.0);
    ensure!(metric(&belfry, &format!("{EVENTS}\"malformed\"}}")).await? == 3.0);
    let missing = metric(&belfry, "kafka_event_headers_missing_total{header=\"trace_id\"}").await?;
    ensure!(missing == 4.0, "{missing} records came without trace_id");
    belfry.terminate().await
}

#[tokio::test]
async fn events_without_headers_are_taken_all_the_same() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = setup.start().await?;
    let event = results_ready(&Batch::number(1)).to_string();
    for _ in 0..2 {
        setup.kafka.produce(&setup.topic, None, &[], Some(event.as_bytes())).await?;
    }
    setup.all_is_read().await?;
    setup.each_is_recorded_once(1).await?;
    for header in ["event_id", "event_type", "trace_id", "content_type"] {
        let line = format!("kafka_event_headers_missing_total{{header=\"{header}\"}}");
        ensure!(metric(&belfry, &line).await? == 2.0, "{header}");
    }
    belfry.terminate().await
}

#[tokio::test]
async fn a_topic_that_is_not_json_is_stopped_until_its_position_is_set() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = setup.start().await?;
    let garbage = (0..300).map(|_| setup.kafka.produce(&setup.topic, None, &[], Some(b"\x00garbage")));
    futures_util::future::try_join_all(garbage).await?;
    until("the partition is stopped", async || Ok(belfry.log()?.contains("more than half of the last 200 records")))
        .await?;
    // All records that were read before the stop become dead letters, too.
    until("the records read are committed", async || {
        let stopped = metric(&belfry, &format!("{EVENTS}\"undecodable\"}}")).await?;
        Ok(stopped > 100.0 && stopped == setup.positions().await?[0] as f64)
    })
    .await?;
    setup.produce_numbers(0..3).await?;
    let set = setup.belfry(&["position", "set", &setup.topic, "0", "300"]).await?;
    ensure!(set.code == Some(0) && set.stdout.contains("300"), "{}{}", set.stdout, set.stderr);
    setup.all_is_read().await?;
    setup.each_is_recorded_once(3).await?;
    belfry.terminate().await
}

#[tokio::test]
async fn setting_a_position_moves_the_reader() -> Result<()> {
    let setup = Setup::new(2).await?;
    let belfry = setup.start_with(&[("kafka.start_at", "latest")]).await?;
    setup.produce_numbers(0..20).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(20).await?;

    // Setting it back while nothing arrives: all records are read again, without effect.
    let set = setup.belfry(&["position", "set", &setup.topic, "0", "earliest"]).await?;
    ensure!(set.code == Some(0), "{}", set.stderr);
    let again = setup.watermarks().await?[0].1 as f64;
    let duplicates = "kafka_duplicate_events_total";
    until("the partition is read again", async || Ok(metric(&belfry, duplicates).await? == again)).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(20).await?;

    // Positions, partitions and topics that do not exist are rejected.
    for (arguments, code) in [
        (["position", "set", &setup.topic, "0", "100000"], 5),
        (["position", "set", &setup.topic, "9", "0"], 4),
        (["position", "set", "no.such.topic", "0", "0"], 4),
    ] {
        let refused = setup.belfry(&arguments).await?;
        ensure!(refused.code == Some(code), "{arguments:?}: {:?} {}", refused.code, refused.stderr);
    }
    belfry.terminate().await
}

#[tokio::test]
async fn another_groups_offsets_are_taken_over() -> Result<()> {
    let setup = Setup::new(2).await?;
    setup.produce_numbers(0..10).await?;
    // The group of the previous notifier has read all of these.
    let before = Setup { group: format!("{}-before", setup.group), ..Setup::on(setup.store.clone(), 2).await? };
    let before = Setup { topic: setup.topic.clone(), ..before };
    let belfry = before.start().await?;
    before.all_is_read().await?;
    belfry.terminate().await?;
    setup.produce_numbers(10..15).await?;

    let unknown = setup.belfry(&["position", "set", "--from-group", "nobody"]).await?;
    ensure!(unknown.code == Some(4), "{:?} {}", unknown.code, unknown.stderr);
    let taken = setup.belfry(&["position", "set", "--from-group", &before.group, "--output", "json"]).await?;
    ensure!(taken.code == Some(0) && taken.stdout.lines().count() == 2, "{}{}", taken.stdout, taken.stderr);
    let belfry = setup.start_with(&[("kafka.start_at", "")]).await?;
    let accepted = format!("{EVENTS}\"accepted\"}}");
    until("the remaining records are read", async || Ok(metric(&belfry, &accepted).await? == 5.0)).await?;
    setup.each_is_recorded_once(15).await?;
    ensure!(metric(&belfry, "kafka_duplicate_events_total").await? == 0.0, "only the remaining records are read");
    belfry.terminate().await
}

#[tokio::test]
async fn a_new_subscription_is_followed_without_a_restart() -> Result<()> {
    let setup = Setup::new(1).await?;
    let first = "huleedu.ras.batch.results.ready.v1";
    setup.kafka.create_topic(first, 2, &[]).await?;
    let event = |number| results_ready(&Batch::number(number));
    setup.produce_to(first, &event(1)).await?;
    let belfry = setup.start_with(&[("kafka.topics", "subscribed")]).await?;
    until("the first topic is read", async || Ok(setup.count("belfry.outbox WHERE topic IS NULL").await? == 1)).await?;

    // A topic that a rule subscribes to and that is created later, and one that a new rule subscribes to.
    let (later, wanted) = ("huleedu.ras.batch.assessment.completed.v1", "test.hostile.v1");
    setup.kafka.create_topic(wanted, 1, &[]).await?;
    let mut hostile = event(2);
    hostile["event_type"] = json!(wanted);
    setup.produce_to(wanted, &hostile).await?;
    belfry.client().push_and_activate(programs::HOSTILE, &json!({ "behaviour": "quiet" })).await?;
    setup.kafka.create_topic(later, 1, &[]).await?;
    let assessed = belfry_tests::assessment(Batch::number(3).event_id, "teacher-1");
    setup.produce_to(later, &assessed).await?;
    until("all topics are read", async || Ok(setup.count("belfry.outbox WHERE topic IS NULL").await? == 3)).await?;
    setup.produce_to(first, &event(4)).await?;
    until("the first topic is still read", async || Ok(setup.count("belfry.outbox WHERE topic IS NULL").await? == 4))
        .await?;
    belfry.terminate().await?;
    for topic in [first, later, wanted] {
        setup.kafka.delete_topic(topic).await?;
    }
    Ok(())
}
