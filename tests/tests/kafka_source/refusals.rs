//! What keeps a replica from starting, and what it says then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use belfry_tests::BelfryProcess;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::setup::{Setup, until};

/// Why it did not start.
async fn refused(setup: &Setup, settings: &[(&'static str, &str)]) -> Result<String> {
    match setup.start_with(settings).await {
        Ok(_) => bail!("it started"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[tokio::test]
async fn a_first_start_needs_a_place_to_begin() -> Result<()> {
    let setup = Setup::new(2).await?;
    let told = refused(&setup, &[("kafka.start_at", "")]).await?;
    ensure!(told.contains("exit status: 78") && told.contains("kafka.start_at"), "{told}");
    let told = refused(&setup, &[("kafka.start_at", "tomorrow")]).await?;
    ensure!(told.contains("exit status: 78") && told.contains("RFC 3339"), "{told}");
    setup.start_with(&[("kafka.start_at", "2026-01-01T00:00:00Z")]).await?.terminate().await?;
    // Once begun, it is known.
    setup.start_with(&[("kafka.start_at", "")]).await?.terminate().await
}

#[tokio::test]
async fn a_position_that_is_not_there_refuses_the_start() -> Result<()> {
    let setup = Setup::new(1).await?;
    setup.produce_numbers(0..20).await?;
    let belfry = setup.start().await?;
    setup.all_is_read().await?;
    belfry.terminate().await?;

    setup.query::<i64>("UPDATE belfry.consumer_position SET next_offset = 25 RETURNING next_offset").await?;
    let told = refused(&setup, &[]).await?;
    ensure!(told.contains("exit status: 5") && told.contains("beyond its end 20"), "{told}");
    ensure!(told.contains("belfry position set"), "{told}");

    setup.query::<i64>("UPDATE belfry.consumer_position SET next_offset = 3 RETURNING next_offset").await?;
    delete_records(&setup, 10).await?;
    let told = refused(&setup, &[]).await?;
    ensure!(told.contains("exit status: 5") && told.contains("7 records were removed"), "{told}");
    let set = setup.belfry(&["position", "set", &setup.topic, "0", "earliest"]).await?;
    ensure!(set.code == Some(0), "{}", set.stderr);
    let belfry = setup.start().await?;
    setup.all_is_read().await?;

    // While it runs, the partition is stopped, and goes on where it is set.
    setup.query::<i64>("UPDATE belfry.consumer_position SET next_offset = 3 RETURNING next_offset").await?;
    setup.produce_numbers(20..21).await?;
    until("it is stopped", async || Ok(belfry.log()?.contains("records were removed before they were read"))).await?;
    let set = setup.belfry(&["position", "set", &setup.topic, "0", "20"]).await?;
    ensure!(set.code == Some(0), "{}", set.stderr);
    setup.all_is_read().await?;
    setup.each_is_recorded_once(21).await?;
    belfry.terminate().await
}

async fn delete_records(setup: &Setup, before: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", setup.kafka.direct()).create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&setup.topic, 0, Offset::Offset(before))?;
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    admin.delete_records(&offsets, &options).await?;
    ensure!(setup.watermarks().await? == [(before, 20)]);
    Ok(())
}

#[tokio::test]
async fn a_living_twin_refuses_the_start_and_a_killed_one_is_followed() -> Result<()> {
    let setup = Setup::new(2).await?;
    let named = [("replica.name", "belfry-0")];
    let first = setup.start_with(&named).await?;
    setup.produce_numbers(0..20).await?;
    setup.all_is_read().await?;
    let told = refused(&setup, &named).await?;
    ensure!(told.contains("exit status: 5") && told.contains("belfry-0"), "{told}");
    setup.produce_numbers(20..30).await?;
    setup.all_is_read().await?;

    // A clean stop gives the name back at once.
    first.terminate().await?;
    let second: BelfryProcess = setup.start_with(&named).await?;
    ensure!(second.ready_after() < Duration::from_secs(5), "{:?}", second.ready_after());
    second.kill().await?;
    setup.produce_numbers(30..40).await?;
    let began = Instant::now();
    let third = setup.start_with(&named).await.context("the lease of a killed one ends")?;
    println!("started {:?} after the kill", began.elapsed());
    setup.all_is_read().await?;
    setup.each_is_recorded_once(40).await?;
    third.terminate().await
}
