//! A problem with one partition stops that partition and nothing else, and raises an alarm.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::BelfryProcess;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::setup::{PATIENCE, Setup, metric, until};

/// Checks the alarm of a stopped partition: its gauge, readiness and log, which must contain these words.
async fn alarmed(setup: &Setup, belfry: &BelfryProcess, partition: i32, words: &[&str]) -> Result<()> {
    let gauge = format!("belfry_partition_stopped{{topic=\"{}\",partition=\"{partition}\"}}", setup.topic);
    until("the gauge is 1", async || Ok(metric(belfry, &gauge).await? == 1.0)).await?;
    let readiness = reqwest::get(format!("{}/readyz", belfry.ops_url())).await?;
    ensure!(readiness.status() == 200, "the service must still accept events");
    let (readiness, log) = (readiness.text().await?, belfry.log()?);
    ensure!(readiness.starts_with("degraded: "), "{readiness}");
    for words in words.iter().chain(&["belfry position set"]) {
        ensure!(readiness.contains(words), "{words}: {readiness}");
        ensure!(log.contains(words), "missing in the log: {words}");
    }
    Ok(())
}

/// Checks that the alarm has ended.
async fn well(setup: &Setup, belfry: &BelfryProcess, partition: i32) -> Result<()> {
    let gauge = format!("belfry_partition_stopped{{topic=\"{}\",partition=\"{partition}\"}}", setup.topic);
    ensure!(metric(belfry, &gauge).await? == 0.0);
    let readiness = reqwest::get(format!("{}/readyz", belfry.ops_url())).await?.text().await?;
    ensure!(readiness == "ok\n", "{readiness}");
    Ok(())
}

async fn position_set(setup: &Setup, partition: &str, target: &str) -> Result<()> {
    let set = setup.belfry(&["position", "set", &setup.topic, partition, target]).await?;
    ensure!(set.code == Some(0), "{}", set.stderr);
    Ok(())
}

/// Changes the position of a partition in the database.
async fn set_position(setup: &Setup, partition: i32, next: i64) -> Result<()> {
    let update = format!(
        "UPDATE belfry.consumer_position SET next_offset = {next} WHERE topic = '{}' AND partition = {partition} \
         RETURNING next_offset",
        setup.topic
    );
    setup.query::<i64>(&update).await?;
    Ok(())
}

#[tokio::test]
async fn a_position_that_is_not_there_stops_its_partition_and_the_service_starts() -> Result<()> {
    let setup = Setup::new(2).await?;
    setup.produce_numbers(0..40).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    belfry.terminate().await?;
    let ends = setup.watermarks().await?;

    set_position(&setup, 0, ends[0].1 + 5).await?;
    let belfry = setup.start().await?;
    alarmed(&setup, &belfry, 0, &["beyond its end"]).await?;
    // The other partition is read.
    setup.produce_numbers(40..60).await?;
    let (second, end) = (async || Ok::<_, anyhow::Error>(setup.positions().await?[1]), setup.watermarks().await?[1].1);
    until("the other partition is read", async || Ok(second().await? == end)).await?;
    position_set(&setup, "0", "earliest").await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(60).await?;
    well(&setup, &belfry, 0).await?;
    belfry.terminate().await?;

    set_position(&setup, 0, 3).await?;
    delete_records(&setup, 10).await?;
    let belfry = setup.start().await?;
    alarmed(&setup, &belfry, 0, &["7 records were removed"]).await?;
    position_set(&setup, "0", "earliest").await?;
    setup.all_is_read().await?;

    // The same while the service runs.
    set_position(&setup, 0, 3).await?;
    setup.produce_numbers(60..70).await?;
    alarmed(&setup, &belfry, 0, &["7 records were removed"]).await?;
    position_set(&setup, "0", "10").await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(70).await?;
    well(&setup, &belfry, 0).await?;
    belfry.terminate().await
}

/// A first start without a position to begin at is refused. A topic added later does not stop others from being read.
#[tokio::test]
async fn a_topic_without_a_place_to_begin_is_left_out_and_the_others_are_read() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.start().await?.terminate().await?;
    let added = format!("{}.added", setup.topic);
    setup.kafka.create_topic(&added, 1, &[]).await?;
    let topics = format!("[\"{}\", \"{added}\"]", setup.topic);
    let belfry = setup.start_with(&[("kafka.start_at", ""), ("kafka.topics", &topics)]).await?;
    setup.produce_numbers(0..5).await?;
    setup.all_is_read().await?;
    let readiness = reqwest::get(format!("{}/readyz", belfry.ops_url())).await?.text().await?;
    ensure!(
        readiness.starts_with("degraded: ") && readiness.contains(&added) && readiness.contains("kafka.start_at"),
        "{readiness}"
    );
    belfry.terminate().await
}

/// The new topic has more records than were read, so only the topic's id shows that it is another.
#[tokio::test]
async fn a_topic_that_was_made_anew_while_belfry_was_away_is_not_skipped() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..10).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    belfry.terminate().await?;

    make_anew(&setup).await?;
    setup.produce_numbers(100..130).await?;
    let belfry = setup.start().await?;
    alarmed(&setup, &belfry, 0, &["deleted and recreated"]).await?;
    ensure!(setup.positions().await? == [10], "nothing is read from the new topic");
    position_set(&setup, "0", "earliest").await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(40).await?;
    well(&setup, &belfry, 0).await?;
    // The position now belongs to the new topic.
    belfry.terminate().await?;
    let belfry = setup.start().await?;
    setup.produce_numbers(130..140).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(50).await?;
    belfry.terminate().await
}

#[tokio::test]
async fn a_topic_that_is_made_anew_under_a_running_reader_is_not_skipped() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..10).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;

    make_anew(&setup).await?;
    setup.produce_numbers(100..130).await?;
    // Detected by the topic's id, or by its end if the reader checks while the topic is empty.
    alarmed(&setup, &belfry, 0, &["recreated"]).await?;
    // The position may also be set to its current value: then earlier records are skipped.
    position_set(&setup, "0", "earliest").await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(40).await?;
    well(&setup, &belfry, 0).await?;
    belfry.terminate().await
}

/// The end of a transaction occupies an offset that no record has. A position left there would seem to point to a removed
/// record once retention reaches it.
#[tokio::test]
async fn positions_pass_the_markers_of_transactions() -> Result<()> {
    let setup = Setup::new(1).await?;
    let belfry = setup.start().await?;
    for transaction in 0..3 {
        produce_in_transaction(&setup, transaction, transaction == 1).await?;
        until("markers are passed", async || {
            Ok(setup.positions().await? == setup.watermarks().await?.iter().map(|(_, high)| *high).collect::<Vec<_>>())
        })
        .await?;
    }
    setup.each_is_recorded_once(10).await?;
    belfry.terminate().await?;

    // A shutdown also moves past markers: the service is stopped before its next regular check.
    let belfry = setup.start().await?;
    let lag = format!("belfry_consumer_lag{{topic=\"{}\",partition=\"0\"}}", setup.topic);
    until("the partition is read", async || Ok(belfry.metrics().await?.contains(&lag))).await?;
    produce_in_transaction(&setup, 3, false).await?;
    until("all are recorded", async || Ok(setup.count("belfry.outbox WHERE topic IS NULL").await? == 15)).await?;
    belfry.terminate().await?;
    let high = setup.watermarks().await?[0].1;
    ensure!(setup.positions().await? == [high], "{:?}, not {high}", setup.positions().await?);

    delete_records(&setup, high).await?;
    let belfry = setup.start().await?;
    setup.produce_numbers(50..55).await?;
    setup.all_is_read().await?;
    well(&setup, &belfry, 0).await?;
    belfry.terminate().await
}

/// Produces five events in one transaction, and aborts or commits it.
async fn produce_in_transaction(setup: &Setup, transaction: u64, aborted: bool) -> Result<()> {
    let (bootstrap, topic) = (setup.kafka.direct(), setup.topic.clone());
    let id = format!("{}-{transaction}", setup.group);
    tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("transactional.id", id);
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        for number in transaction * 5..transaction * 5 + 5 {
            let event = belfry_tests::results_ready(&belfry_tests::Batch::number(number)).to_string();
            producer.send(BaseRecord::<(), _>::to(&topic).payload(&event)).map_err(|(error, _)| error)?;
        }
        match aborted {
            true => {
                producer.flush(PATIENCE)?;
                producer.abort_transaction(PATIENCE)?;
            }
            false => producer.commit_transaction(PATIENCE)?,
        }
        Ok(())
    })
    .await?
}

/// Deletes the topic, and creates another one under its name.
async fn make_anew(setup: &Setup) -> Result<()> {
    setup.kafka.delete_topic(&setup.topic).await?;
    let created = async || Ok(setup.kafka.create_topic(&setup.topic, setup.partitions, &[]).await.is_ok());
    until("the topic is created again", created).await
}

async fn delete_records(setup: &Setup, before: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", setup.kafka.direct()).create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&setup.topic, 0, Offset::Offset(before))?;
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    admin.delete_records(&offsets, &options).await?;
    let low = setup.watermarks().await?.first().context("no partition")?.0;
    ensure!(low == before, "the partition begins at {low}, expected {before}");
    Ok(())
}
