//! Several replicas, and a database that goes away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use belfry_tests::servers::Postgres;
use tempfile::TempDir;

use crate::setup::{Setup, metric, until};

/// Events that are written while things happen.
async fn write_until(setup: &Setup, enough: &AtomicBool) -> Result<u64> {
    let mut next = 0;
    while !enough.load(Ordering::SeqCst) {
        setup.produce_numbers(next..next + 25).await?;
        next += 25;
        // A load, but none that takes long to read to its end.
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
            until("both read", async || {
                Ok(metric(&first, accepted).await? > 50.0 && metric(&second, accepted).await? > 50.0)
            })
            .await?;
            let third = setup.start().await?;
            until("the third reads", async || Ok(metric(&third, accepted).await? > 50.0)).await?;
            second.kill().await?;
            let before = metric(&third, accepted).await?;
            until("the third goes on", async || Ok(metric(&third, accepted).await? > before + 100.0)).await?;
            third.terminate().await?;
            let fourth = setup.start().await?;
            until("the fourth reads", async || Ok(metric(&fourth, accepted).await? > 50.0)).await?;
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
                until("it reads", async || Ok(setup.positions().await?.iter().sum::<i64>() > before + 100)).await?;
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
