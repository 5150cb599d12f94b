//! What keeps a replica from starting, and what it says then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use belfry_tests::BelfryProcess;

use crate::setup::Setup;

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
