//! Several replicas, and a database that is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::Postgres;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::setup::{Setup, metric, until};

/// Writes events until `enough` is set. Returns their number.
async fn write_until(setup: &Setup, enough: &AtomicBool) -> Result<u64> {
    let mut next = 0;
    while !enough.load(Ordering::SeqCst) {
        setup.produce_numbers(next..next + 25).await?;
        next += 25;
        // Some load, but not so much that the backlog takes long to read.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_come_and_go_without_loss_or_doubling() -> Result<()> {
    let setup = Setup::new(6).await?;
    let enough = AtomicBool::new(false);
    let writing = write_until(&setup, &enough);
    let changing = async {
        let done = async {
            let first = setup.start().await?;
            let second = setup.start().await?;
            let accepted = "belfry_events_total{source=\"kafka\",outcome=\"accepted\"}";
            until("both replicas read", async || {
                Ok(metric(&first, accepted).await? > 50.0 && metric(&second, accepted).await? > 50.0)
            })
            .await?;
            let third = setup.start().await?;
            until("the third replica reads", async || Ok(metric(&third, accepted).await? > 50.0)).await?;
            second.kill().await?;
            let before = metric(&third, accepted).await?;
            until("the third replica continues", async || Ok(metric(&third, accepted).await? > before + 100.0)).await?;
            third.terminate().await?;
            let fourth = setup.start().await?;
            until("the fourth replica reads", async || Ok(metric(&fourth, accepted).await? > 50.0)).await?;
            anyhow::Ok((first, fourth))
        };
        let done = done.await;
        enough.store(true, Ordering::SeqCst);
        done
    };
    let (written, replicas) = tokio::join!(writing, changing);
    let (written, (first, fourth)) = (written?, replicas?);
    setup.all_is_read().await?;
    setup.each_is_recorded_once(written).await?;
    ensure!(setup.count("belfry.dead_letter").await? == 0);
    println!("{written} events");
    first.terminate().await?;
    fourth.terminate().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let directory = TempDir::new()?;
    let postgres = Postgres::start(directory.path(), &[]).await?;
    let setup = Setup::on(postgres.create_database().await?.url, 3).await?;
    let belfry = setup.start().await?;
    let enough = AtomicBool::new(false);
    let writing = write_until(&setup, &enough);
    let changing = async {
        let done = async {
            for _ in 0..3 {
                let before: i64 = setup.positions().await?.iter().sum();
                until("the replica reads", async || Ok(setup.positions().await?.iter().sum::<i64>() > before + 100))
                    .await?;
                postgres.kill().await?;
                postgres.restart().await?;
            }
            anyhow::Ok(())
        };
        let done = done.await;
        enough.store(true, Ordering::SeqCst);
        done
    };
    let (written, done) = tokio::join!(writing, changing);
    done?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(written?).await?;
    ensure!(setup.count("belfry.dead_letter").await? == 0);
    belfry.terminate().await
}

/// Returns a new member of the group. The test waits until it is assigned a partition, and then drops it.
fn guest(setup: &Setup) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", setup.kafka.bootstrap())
        .set("group.id", &setup.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&setup.topic])?;
    Ok(consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_taken_away_while_it_was_paused_is_read_when_it_comes_back() -> Result<()> {
    const EVENTS: u64 = 6000;
    let setup = Setup::new(4).await?;
    let belfry = setup.start_with(&[("store.lock_timeout_ms", "30000")]).await?;
    setup.produce_numbers(0..100).await?;
    setup.all_is_read().await?;
    // Nothing can be committed, so the committer's queue fills up and the reader pauses its partitions.
    let mut blocker = PgConnection::connect(&setup.store).await?;
    let mut order = blocker.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)").execute(&mut *order).await?;
    setup.produce_numbers(100..EVENTS).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let guest = guest(&setup)?;
    let given = tokio::task::spawn_blocking(move || {
        for _ in 0..600 {
            // Records that the guest reads are ignored: only the position in the database counts.
            let _ = guest.poll(Duration::from_millis(50));
            if guest.assignment()?.count() > 0 {
                return Ok(guest);
            }
        }
        anyhow::bail!("the guest was assigned no partition")
    });
    // Long enough for a rebalance to revoke one of the reader's partitions.
    tokio::time::sleep(Duration::from_secs(4)).await;
    order.rollback().await?;
    let guest = given.await?.context("no partition was reassigned to the guest")?;
    tokio::task::spawn_blocking(move || drop(guest)).await?;
    setup.all_is_read().await?;
    setup.each_is_recorded_once(EVENTS).await?;
    belfry.terminate().await
}
