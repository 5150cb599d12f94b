use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_store::{StoreSettings, migrate_submit};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::servers::{Database, Postgres};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(40);

/// The database of another service, in which events can be submitted.
pub struct ServiceDatabase {
    /// Where it is.
    pub database: Database,
    /// The service's own connections.
    pub pool: PgPool,
}

/// An event in Belfry's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its id.
    pub event_id: Uuid,
    /// Its key.
    pub event_key: String,
    /// Exactly what was submitted.
    pub payload: String,
}

impl ServiceDatabase {
    /// Make one on this server, and install `belfry.submit` in it.
    pub async fn create(server: &Postgres) -> Result<Self> {
        let database = server.create_database().await?;
        migrate_submit(&StoreSettings::new(&database.url)).await?;
        let pool = PgPoolOptions::new().max_connections(32).connect(&database.url).await?;
        Ok(Self { database, pool })
    }

    /// The setting `source.postgres` of a Belfry that reads these databases, named in order `a`, `b`, and so on.
    pub fn setting(databases: &[&Self]) -> String {
        let named =
            databases.iter().zip('a'..).map(|(one, name)| format!("{{name=\"{name}\",url=\"{}\"}}", one.database.url));
        format!("[{}]", named.collect::<Vec<_>>().join(","))
    }

    /// Submit an event in a transaction of its own.
    pub async fn submit(&self, envelope: &str, key: Option<&str>) -> Result<Uuid, sqlx::Error> {
        sqlx::query_scalar("SELECT belfry.submit($1, $2)").bind(envelope).bind(key).fetch_one(&self.pool).await
    }

    /// How many events wait there.
    pub async fn waiting(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM belfry.submitted").fetch_one(&self.pool).await?)
    }

    /// Wait until nothing waits there.
    pub async fn wait_until_read(&self) -> Result<()> {
        let began = Instant::now();
        while self.waiting().await? > 0 {
            ensure!(began.elapsed() < PATIENCE, "{} events were not read", self.waiting().await?);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// The events of Belfry's log in this database, in order.
pub async fn logged_events(belfry: &PgPool) -> Result<Vec<LoggedEvent>> {
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(
        "SELECT event_id, event_key, convert_from(payload, 'UTF8') FROM belfry.outbox \
         WHERE source_event_id IS NULL ORDER BY id",
    )
    .fetch_all(belfry)
    .await?;
    Ok(rows.into_iter().map(|(event_id, event_key, payload)| LoggedEvent { event_id, event_key, payload }).collect())
}
