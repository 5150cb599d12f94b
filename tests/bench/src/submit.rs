//! The time that `belfry.submit` adds to another service's transaction, while Belfry reads the submitted events.

use std::time::{Duration, Instant};

use anyhow::Result;
use belfry_store::{StoreSettings, migrate_submit};
use belfry_tests::BelfryProcess;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool};
use tempfile::TempDir;

use crate::figures::{Figures, millis, percentile};
use crate::servers::{Servers, event_bytes};

const TRANSACTIONS: u64 = 2000;
const ROUNDS: u64 = 3;
/// Number of concurrent clients of the service.
const CLIENTS: [u64; 2] = [1, 4];

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let servers = Servers::start().await?;
    let (url, _) = servers.database().await?;
    let service_url = servers.postgres.create_database().await?.url;
    migrate_submit(&StoreSettings::new(service_url.as_str())).await?;
    let pool = PgPoolOptions::new().max_connections(2).connect(&service_url).await?;
    sqlx::query("CREATE TABLE work (id bigserial PRIMARY KEY, text bytea NOT NULL)").execute(&pool).await?;
    let directory = TempDir::new()?;
    let settings = [
        ("store.url", url),
        ("source.postgres", format!("[{{name=\"service\",url=\"{service_url}\"}}]")),
        ("sink.stdout.enabled", "true".to_owned()),
    ];
    let service = BelfryProcess::start_with(directory.path(), &settings).await?;
    let mut next = 0;
    for clients in CLIENTS {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(round(&service_url, clients, None).await?);
            with.push(round(&service_url, clients, Some(next)).await?);
            next += clients * TRANSACTIONS;
            drained(&pool).await?;
        }
        let (with, without) = (percentile(&mut with, 50), percentile(&mut without, 50));
        figures.add(
            &format!("time that belfry.submit adds to a transaction, {clients} clients"),
            format!("{} more at p50", millis(with.saturating_sub(without))),
            format!("{} without", millis(without)),
            "< 1 ms",
        );
    }
    service.terminate().await?;
    Ok(())
}

/// Returns the median of the transactions' times. If `submits` is set, each submits an event, numbered from there.
async fn round(url: &str, clients: u64, submits: Option<u64>) -> Result<Duration> {
    let mut running = Vec::new();
    for client in 0..clients {
        let mut connection = PgConnection::connect(url).await?;
        running.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for number in client * TRANSACTIONS..(client + 1) * TRANSACTIONS {
                let event = event_bytes(submits.unwrap_or(0) + number);
                let began = Instant::now();
                let mut transaction = connection.begin().await?;
                sqlx::query("INSERT INTO work (text) VALUES ($1)")
                    .bind(&event[..400])
                    .execute(&mut *transaction)
                    .await?;
                if submits.is_some() {
                    let event = str::from_utf8(&event)?;
                    sqlx::query("SELECT belfry.submit($1)").bind(event).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        }));
    }
    let mut times = Vec::new();
    for client in running {
        times.extend(client.await??);
    }
    Ok(percentile(&mut times, 50))
}

/// Waits until Belfry has read everything, so that nothing runs alongside a round without submissions.
async fn drained(pool: &PgPool) -> Result<()> {
    while sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM belfry.submitted)").fetch_one(pool).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
