//! Reasons why a replica does not start, and its error messages.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use belfry_tests::BelfryProcess;

use crate::setup::Setup;

/// Returns the error with which the service does not start.
async fn refused(setup: &Setup, settings: &[(&'static str, &str)]) -> Result<String> {
    match setup.start_with(settings).await {
        Ok(_) => bail!("the service started"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[tokio::test]
async fn a_first_start_needs_a_place_to_begin() -> Result<()> {
    let setup = Setup::new(2).await?;
    let refusal = refused(&setup, &[("kafka.start_at", "")]).await?;
    ensure!(refusal.contains("exit status: 78") && refusal.contains("kafka.start_at"), "{refusal}");
    let refusal = refused(&setup, &[("kafka.start_at", "tomorrow")]).await?;
    ensure!(refusal.contains("exit status: 78") && refusal.contains("RFC 3339"), "{refusal}");
    setup.start_with(&[("kafka.start_at", "2026-01-01T00:00:00Z")]).await?.terminate().await?;
    // Once the group has positions, the setting is not needed.
    setup.start_with(&[("kafka.start_at", "")]).await?.terminate().await
}

#[tokio::test]
async fn a_living_twin_refuses_the_start_and_a_killed_one_is_followed() -> Result<()> {
    let setup = Setup::new(2).await?;
    let named = [("replica.name", "belfry-0")];
    let first = setup.start_with(&named).await?;
    setup.produce_numbers(0..20).await?;
    setup.all_is_read().await?;
    let refusal = refused(&setup, &named).await?;
    ensure!(refusal.contains("exit status: 5") && refusal.contains("belfry-0"), "{refusal}");
    setup.produce_numbers(20..30).await?;
    setup.all_is_read().await?;

    // A clean shutdown releases the name at once.
    first.terminate().await?;
    let second: BelfryProcess = setup.start_with(&named).await?;
    ensure!(second.ready_after() < Duration::from_secs(5), "{:?}", second.ready_after());
    second.kill().await?;
    setup.produce_numbers(30..40).await?;
    let began = Instant::now();
    let third = setup.start_with(&named).await.context("the lease of a killed replica must expire")?;
    println!("started {:?} after the kill", began.elapsed());
    setup.all_is_read().await?;
    setup.each_is_recorded_once(40).await?;
    third.terminate().await
}
