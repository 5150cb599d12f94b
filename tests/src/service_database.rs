use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_store::{StoreSettings, migrate_submit};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::servers::{Database, Postgres};

/// Time limit of a wait.
const PATIENCE: Duration = Duration::from_secs(40);

/// The database of another service, with `belfry.submit` installed.
pub struct ServiceDatabase {
    /// Its name and URLs.
    pub database: Database,
    /// The service's own connection pool.
    pub pool: PgPool,
}

/// An event in Belfry's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its id.
    pub event_id: Uuid,
    /// Its key.
    pub event_key: String,
    /// The payload, exactly as submitted.
    pub payload: String,
}

impl ServiceDatabase {
    /// Creates a database on this server and installs `belfry.submit` in it.
    pub async fn create(server: &Postgres) -> Result<Self> {
        let database = server.create_database().await?;
        migrate_submit(&StoreSettings::new(&database.url)).await?;
        let pool = PgPoolOptions::new().max_connections(32).connect(&database.url).await?;
        Ok(Self { database, pool })
    }

    /// Returns the setting `source.postgres` for a Belfry that reads these databases, named `a`, `b`, and so on, in
    /// order.
    pub fn setting(databases: &[&Self]) -> String {
        let named =
            databases.iter().zip('a'..).map(|(one, name)| format!("{{name=\"{name}\",url=\"{}\"}}", one.database.url));
        format!("[{}]", named.collect::<Vec<_>>().join(","))
    }

    /// Submits an event in its own transaction.
    pub async fn submit(&self, envelope: &str, key: Option<&str>) -> Result<Uuid, sqlx::Error> {
        sqlx::query_scalar("SELECT belfry.submit($1, $2)").bind(envelope).bind(key).fetch_one(&self.pool).await
    }

    /// Returns the number of queued events.
    pub async fn waiting(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM belfry.submitted").fetch_one(&self.pool).await?)
    }

    /// Waits until the queue is empty.
    pub async fn wait_until_read(&self) -> Result<()> {
        let began = Instant::now();
        while self.waiting().await? > 0 {
            ensure!(began.elapsed() < PATIENCE, "{} events were not read", self.waiting().await?);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Returns the events of Belfry's log in this database, in the order of the log.
pub async fn logged_events(belfry: &PgPool) -> Result<Vec<LoggedEvent>> {
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(
        "SELECT event_id, event_key, convert_from(payload, 'UTF8') FROM belfry.outbox \
         WHERE source_event_id IS NULL ORDER BY id",
    )
    .fetch_all(belfry)
    .await?;
    Ok(rows.into_iter().map(|(event_id, event_key, payload)| LoggedEvent { event_id, event_key, payload }).collect())
}
