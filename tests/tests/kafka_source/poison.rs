//! Records on which Belfry itself fails, and records that cause a large amount of work. A record may harm only itself.

use std::ffi::CString;
use std::ptr;

use anyhow::{Result, ensure};
use belfry_artifacts::programs;
use belfry_tests::{Batch, BelfryProcess, results_ready};
use rdkafka::ClientConfig;
use rdkafka::bindings as librdkafka;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::json;

use crate::setup::{PATIENCE, Setup, metric, until};

const RELAY_PANICS: &str = "belfry_task_panics_total{task=\"relay\"}";
const UNDECODABLE: &str = "belfry_events_total{source=\"kafka\",outcome=\"undecodable\"}";

/// Names of Kafka headers are bytes, and any producer that may write to the topic can choose them.
#[tokio::test]
async fn a_header_name_that_is_not_utf8_harms_nothing() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = setup.start().await?;
    setup.produce_numbers(0..3).await?;
    for number in 3..6 {
        produce_with_header(&setup, b"\xff\xfe name", &results_ready(&Batch::number(number)).to_string()).await?;
    }
    produce_with_header(&setup, b"", &results_ready(&Batch::number(6)).to_string()).await?;
    setup.produce_numbers(7..10).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(10).await?;
    ensure!(!belfry.metrics().await?.contains("belfry_task_panics_total"), "{}", belfry.log()?);
    // `belfry audit` reads Belfry's topics, to which other producers may write as well.
    belfry.terminate().await
}

/// Produces a record with this header name. Calls librdkafka directly, because rdkafka accepts only text as names.
async fn produce_with_header(setup: &Setup, name: &'static [u8], payload: &str) -> Result<()> {
    let (bootstrap, topic, payload) = (setup.kafka.direct(), setup.topic.clone(), payload.to_owned());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let topic = CString::new(topic)?;
        let mut payload = payload.into_bytes();
        let end = librdkafka::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END;
        // SAFETY: the client is alive, all pointers are valid until the end of the call, and the payload is copied.
        #[expect(unsafe_code, reason = "rdkafka takes names that are texts only")]
        let error = unsafe {
            let headers = librdkafka::rd_kafka_headers_new(1);
            let length = isize::try_from(name.len())?;
            librdkafka::rd_kafka_header_add(headers, name.as_ptr().cast(), length, ptr::null(), 0);
            librdkafka::rd_kafka_producev(
                producer.client().native_ptr(),
                librdkafka::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                librdkafka::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                payload.as_mut_ptr(),
                payload.len(),
                librdkafka::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                librdkafka::RD_KAFKA_MSG_F_COPY,
                librdkafka::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers,
                end,
            )
        };
        ensure!(error == librdkafka::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{error:?}");
        producer.flush(PATIENCE)?;
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn a_record_whose_reading_panics_becomes_a_dead_letter() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..20).await?;
    let belfry = setup.start_with(&[("FAILPOINTS", "source.record=2*panic(a test)")]).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(18).await?;
    ensure!(metric(&belfry, UNDECODABLE).await? == 2.0);
    ensure!(metric(&belfry, "belfry_task_panics_total{task=\"kafka-source\"}").await? == 2.0);
    let log = belfry.log()?;
    ensure!(log.contains("a task of belfry panicked") && !log.contains("a test"), "{log}");
    belfry.terminate().await
}

/// The first panic fails all events together. Then they are projected one by one, and the second panic fails the first
/// event.
#[tokio::test]
async fn an_event_on_which_the_pipeline_panics_becomes_a_dead_letter() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..20).await?;
    let belfry = setup.start_with(&[("FAILPOINTS", "pipeline.project=2*panic(a test)")]).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(19).await?;
    ensure!(metric(&belfry, UNDECODABLE).await? == 1.0);
    ensure!(setup.query::<String>("SELECT cause FROM belfry.dead_letter").await? == ["undecodable"]);
    belfry.terminate().await
}

#[tokio::test]
async fn what_a_rule_answered_and_the_host_fails_on_is_a_dead_letter_of_that_rule() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..20).await?;
    let belfry = setup.start_with(&[("FAILPOINTS", "project.finish=1*panic(a test)")]).await?;
    setup.all_is_read().await?;
    ensure!(setup.count("belfry.outbox WHERE topic IS NULL").await? == 20);
    ensure!(setup.query::<String>("SELECT cause FROM belfry.dead_letter").await? == ["trapped"]);
    ensure!(metric(&belfry, "belfry_task_panics_total{task=\"guest\"}").await? == 1.0);
    belfry.terminate().await
}

#[tokio::test]
async fn a_request_that_panics_is_answered_and_the_next_one_served() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = setup.start_with(&[("FAILPOINTS", "pipeline.project=2*panic(a test)")]).await?;
    let event = results_ready(&Batch::number(1));
    let failed = belfry.client().post(&event).await?;
    ensure!(failed.status == 500 && failed.body["type"] == "urn:belfry:problem:internal", "{failed:?}");
    ensure!(metric(&belfry, "belfry_task_panics_total{task=\"http\"}").await? == 2.0, "{}", belfry.metrics().await?);
    let taken = belfry.client().post(&event).await?;
    ensure!(taken.status == 201, "{taken:?}");
    belfry.terminate().await
}

#[tokio::test]
async fn a_relay_that_panics_begins_again() -> Result<()> {
    let setup = Setup::new(1).await?;
    let (belfry, notifications) = start_with_sink(&setup, "relay.before-checkpoint=2*panic(a test)").await?;
    until("all are sent", async || Ok(sent(&setup, &notifications).await? == 20)).await?;
    // A relay that panicked sends again what its predecessor sent, so the second panic may come after the last record.
    until("both panics are counted", async || Ok(metric(&belfry, RELAY_PANICS).await? == 2.0)).await?;
    belfry.terminate().await
}

/// Entries that panicked together are sent alone. The first one panics again and is parked, with what follows it in its key.
#[tokio::test]
async fn an_entry_whose_sending_panics_is_parked_and_the_rest_is_sent() -> Result<()> {
    let setup = Setup::new(1).await?;
    let (belfry, notifications) = start_with_sink(&setup, "relay.send=30*panic(a test)").await?;
    let parked = async || metric(&belfry, "belfry_parked{sink=\"kafka\"}").await;
    let rest_is_sent = async || {
        let (sent, parked) = (sent(&setup, &notifications).await?, parked().await?);
        Ok(parked >= 1.0 && sent as f64 + parked == 20.0)
    };
    until("the rest is sent", rest_is_sent).await?;
    // Panics may be left; each keeps an entry parked once more.
    let all_are_sent = async || {
        let asked = belfry.client().post_to("/v1/parked/unpark", &json!({ "all": true })).await?;
        ensure!(asked.status == 200, "{asked:?}");
        Ok(sent(&setup, &notifications).await? == 20)
    };
    until("all are sent", all_are_sent).await?;
    ensure!(metric(&belfry, RELAY_PANICS).await? == 30.0);
    belfry.terminate().await
}

/// Starts Belfry with these fail points, 20 events to read, and a sink. Returns the topic of its notifications, too.
async fn start_with_sink(setup: &Setup, fail_points: &str) -> Result<(BelfryProcess, String)> {
    let notifications = format!("{}.notifications", setup.topic);
    setup.kafka.create_topic(&notifications, 1, &[]).await?;
    setup.produce_numbers(0..20).await?;
    let settings =
        [("FAILPOINTS", fail_points), ("sink.kafka.enabled", "true"), ("notification.topic", notifications.as_str())];
    Ok((setup.start_with(&settings).await?, notifications))
}

/// Returns the number of different records on a topic.
async fn sent(setup: &Setup, topic: &str) -> Result<usize> {
    let records = setup.kafka.read_topic(topic).await?;
    let ids = records.iter().filter_map(|record| record.header("event_id").map(str::to_owned));
    Ok(ids.collect::<std::collections::BTreeSet<_>>().len())
}

#[tokio::test]
async fn a_writer_that_panics_at_a_commit_goes_on() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..20).await?;
    let belfry = setup.start_with(&[("FAILPOINTS", "commit.begin=2*panic(a test)")]).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(20).await?;
    belfry.terminate().await
}

/// 120 events with 400 notifications each: 48,000 notifications, 120 MB. All at once, they would be one statement under the
/// order lock, and three times as much memory.
#[tokio::test]
async fn what_rules_answer_bounds_a_run() -> Result<()> {
    const EVENTS: u64 = 120;
    let setup = Setup::new(1).await?;
    let belfry = setup.start().await?;
    belfry.client().push_and_activate(programs::HOSTILE, &json!({ "behaviour": "many" })).await?;
    belfry.terminate().await?;
    for number in 0..EVENTS {
        let mut event = results_ready(&Batch::number(number));
        event["event_type"] = json!("test.hostile.v1");
        setup.produce(&event).await?;
    }
    let belfry = setup.start().await?;
    let before = belfry.peak_memory()?;
    setup.all_is_read().await?;
    ensure!(setup.count("belfry.outbox WHERE topic IS NOT NULL").await? == 400 * EVENTS as i64);
    let entries = metric(&belfry, "belfry_writer_group_entries_sum").await?;
    let groups = metric(&belfry, "belfry_writer_group_entries_count").await?;
    ensure!(entries / groups < 3_000.0, "{entries} entries in {groups} groups");
    let grown = belfry.peak_memory()? - before;
    ensure!(grown < 300 << 20, "{} MiB more", grown >> 20);
    belfry.terminate().await
}
