//! The store of several replicas: one PostgreSQL database.
//!
//! The log's order lock is a transaction-level advisory lock. Ids are drawn after it was taken and become visible before
//! it is let go, so whoever sees an id knows that all lower ones are decided.

mod activity;
mod audit;
mod changes;
mod commit;
mod connect;
mod connections;
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

/// Ranges of the log that are ready before they are needed.
const RANGES_AHEAD: i32 = 4;

/// What a statement of the service itself may take at most, whatever the settings say: once a silent network works again,
/// events are committed within 15 s.
const OWN_STATEMENT: Duration = Duration::from_secs(8);
/// A heartbeat that takes longer than this could not renew a lease in time.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// The server ends a statement itself before the connection is given up.
const GRACE: Duration = Duration::from_secs(2);

/// A database on a server.
#[derive(Clone)]
pub struct Postgres {
    /// One connection, so that no other statement comes between the writer's.
    writer: Connections,
    /// One connection, so that a lease is renewed however busy the others are.
    heart: Connections,
    /// For what the service itself reads and notes.
    readers: Connections,
    /// For what people and their programs look at: however slow or many their queries are, the service goes on.
    viewers: Connections,
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

    /// Make room before it is needed, while no one waits for it.
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
        for connections in [&self.viewers, &self.readers, &self.heart, &self.writer] {
            connections.close();
        }
    }
}

/// PostgreSQL's text has no place for U+0000.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
