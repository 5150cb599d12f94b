//! The store for several replicas: one PostgreSQL database.
//!
//! The log's order lock is a transaction-level advisory lock. Ids are drawn after it is taken and become visible before
//! it is released, so a reader that sees an id knows that all lower ids are decided.

mod activity;
mod append;
mod audit;
mod audit_log;
mod commit;
mod connect;
mod connections;
mod dead_letters;
mod doctor;
mod history;
mod leases;
mod migrate;
mod parked;
mod read_log;
mod releases;
mod retention;
mod rollouts;
mod sinks;
mod sources;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use connections::{Breakages, Connections, Limits};
use tokio::time::timeout;

pub use activity::{Activity, LockHolder};
pub(crate) use connect::check_address;
pub use doctor::{DatabaseDoctor, Headroom, Server, SourceState, State};
pub(crate) use migrate::Schema;
pub use migrate::{MigrateReport, migrate};

use crate::{OpenError, StoreError, StoreSettings};

/// Number of the log's ranges that are created in advance.
const RANGES_AHEAD: i32 = 4;

/// Maximum time limit for a statement of the service itself, regardless of the settings: after a silent network
/// recovers, events are committed within 15 s.
const OWN_STATEMENT: Duration = Duration::from_secs(8);
/// Time limit for a heartbeat. A slower one could not renew a lease in time.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// Additional time for the server to cancel a statement itself, before the connection is closed.
const GRACE: Duration = Duration::from_secs(2);

/// A database on a PostgreSQL server.
#[derive(Clone)]
pub struct Postgres {
    /// One connection, so that no other statement runs between the writer's statements.
    writer: Connections,
    /// One connection, so that a lease is renewed however busy the others are.
    heart: Connections,
    /// For the service's own reads and writes.
    readers: Connections,
    /// For the queries of people and their programs. However slow or numerous these are, the service is not affected.
    viewers: Connections,
    /// The highest position for which a partition exists.
    capacity: Arc<AtomicI64>,
    partition_entries: i64,
}

impl Postgres {
    pub(crate) async fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        let options = connect::options(settings)?;
        if settings.migrate {
            migrate::migrate_at_start(settings).await?;
        }
        let breakages = Breakages::default();
        let connections = |size: u32, at_most: Duration| {
            let statement = settings.statement_timeout.min(at_most);
            let options = options.clone().options([("statement_timeout", statement.as_millis().to_string())]);
            let limits = Limits { connect: settings.connect_timeout, statement: statement + GRACE };
            Connections::new(options, size, limits, breakages.clone())
        };
        let writer = connections(1, OWN_STATEMENT);
        let mut session = writer.lend().await?;
        let checked = timeout(OWN_STATEMENT, migrate::check(&mut session));
        checked.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        drop(session);
        let for_viewers = settings.max_connections / 2;
        let store = Self {
            writer,
            heart: connections(1, HEARTBEAT),
            readers: connections((settings.max_connections - for_viewers).max(1), OWN_STATEMENT),
            viewers: connections(for_viewers.max(1), Duration::MAX),
            capacity: Arc::new(AtomicI64::new(0)),
            partition_entries: settings.partition_entries,
        };
        store.extend_log().await.map_err(|error| OpenError::Changed(error.to_string()))?;
        Ok(store)
    }

    /// Creates the next ranges of the log, if they are missing.
    async fn extend_log(&self) -> Result<(), StoreError> {
        let capacity: i64 = sqlx::query_scalar("SELECT belfry.extend_log($1, $2)")
            .bind(self.partition_entries)
            .bind(RANGES_AHEAD)
            .fetch_one(&self.readers)
            .await?;
        self.capacity.fetch_max(capacity, Ordering::Relaxed);
        Ok(())
    }

    /// Creates ranges before they are needed, while no request waits for them.
    fn extend_log_when_near(&self, position: i64) {
        let capacity = self.capacity.load(Ordering::Relaxed);
        // Half of the ranges that should be ahead are used. The next attempt is a quarter of a range later.
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
                tracing::warn!(%error, "cannot create the log's next range; it will be retried");
            }
        });
    }

    pub(crate) async fn close(&self) {
        for connections in [&self.viewers, &self.readers, &self.heart, &self.writer] {
            connections.close();
        }
    }
}

/// Replaces U+0000, which PostgreSQL's `text` cannot hold.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
