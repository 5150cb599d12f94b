//! The store of several replicas: one PostgreSQL database.
//!
//! The log's order lock is a transaction-level advisory lock. Ids are drawn after it was taken and become visible before
//! it is let go, so whoever sees an id knows that all lower ones are decided.

mod activity;
mod audit;
mod changes;
mod commit;
mod connect;
mod dead_letters;
mod doctor;
mod entries;
mod history;
mod leases;
mod log;
mod migrate;
mod parked;
mod releases;
mod retention;
mod rollouts;
mod sources;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

pub use activity::{Activity, LockHolder};
pub(crate) use connect::check_address;
pub use doctor::{DatabaseDoctor, Headroom, Server, SourceState, State};
pub(crate) use migrate::Schema;
pub use migrate::{MigrateReport, migrate};

use crate::{OpenError, StoreError, StoreSettings};

/// Ranges of the log that are ready before they are needed.
const RANGES_AHEAD: i32 = 4;

/// A database on a server.
#[derive(Clone)]
pub struct Postgres {
    /// One connection, so that nobody else's statement stands between the writer's.
    writer: PgPool,
    /// One connection, so that a lease is renewed however busy the others are.
    heart: PgPool,
    readers: PgPool,
    /// The highest position that has a place in a partition.
    capacity: Arc<AtomicI64>,
    partition_entries: i64,
}

impl Postgres {
    pub(crate) async fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        let options = connect::options(settings)?;
        if settings.migrate {
            migrate::migrate_at_start(settings).await?;
        }
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(settings.connect_timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                // A connection that broke is noticed by the statement that uses it.
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        migrate::check(&writer).await?;
        let store = Self {
            writer,
            heart: pool(1).connect_lazy_with(options.clone()),
            readers: pool(settings.max_connections).connect_lazy_with(options),
            capacity: Arc::new(AtomicI64::new(0)),
            partition_entries: settings.partition_entries,
        };
        store.extend_log().await.map_err(|error| OpenError::Changed(error.to_string()))?;
        Ok(store)
    }

    /// Have the next ranges of the log ready.
    async fn extend_log(&self) -> Result<(), StoreError> {
        let capacity: i64 = sqlx::query_scalar("SELECT belfry.extend_log($1, $2)")
            .bind(self.partition_entries)
            .bind(RANGES_AHEAD)
            .fetch_one(&self.readers)
            .await?;
        self.capacity.fetch_max(capacity, Ordering::Relaxed);
        Ok(())
    }

    /// Make room before it is needed, without anybody waiting for it.
    fn extend_log_when_near(&self, position: i64) {
        let capacity = self.capacity.load(Ordering::Relaxed);
        // Half of the ranges that should be ahead are used; the next attempt is a quarter of a range later.
        let near = capacity - i64::from(RANGES_AHEAD) / 2 * self.partition_entries;
        if position < near
            || self
                .capacity
                .compare_exchange(capacity, capacity + self.partition_entries / 4, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            if let Err(error) = store.extend_log().await {
                tracing::warn!(%error, "cannot prepare the log's next range; it is tried again");
            }
        });
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.heart.close().await;
        self.writer.close().await;
    }
}

/// PostgreSQL's text has no place for U+0000.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
