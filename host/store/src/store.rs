use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use belfry_model::ContentHash;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::address::Address;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{Batch, BatchReceipt, OpenError, StoreError, Submission, crash_point};

/// The database, SQLite or PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// An embedded database, for one process.
    Sqlite(Sqlite),
    /// A database server, for several replicas.
    Postgres(Postgres),
}

/// Settings of a store. All but `url` and `create` apply to PostgreSQL only.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reading; the writer and the heartbeat have one more each.
    pub max_connections: u32,
    /// Time limit to open a connection, or to get one from the pool.
    pub connect_timeout: Duration,
    /// Time limit for a statement.
    pub statement_timeout: Duration,
    /// Time limit to wait for a lock.
    pub lock_timeout: Duration,
    /// Migrate the schema at startup; otherwise an old schema is rejected.
    pub migrate: bool,
    /// Create the SQLite file if it does not exist.
    pub create: bool,
    /// Number of log positions in one partition.
    pub partition_entries: i64,
}

impl StoreSettings {
    /// Returns the default settings for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            migrate: true,
            create: true,
            partition_entries: 1_000_000,
        }
    }

    /// Returns the settings for a command that runs alongside the service, and that may be older or newer than the
    /// service: no database is created, and a server's schema is not migrated.
    pub fn beside_the_service(self) -> Self {
        Self { migrate: false, create: false, max_connections: 1, ..self }
    }
}

impl Store {
    /// Opens the database that the settings name, and migrates its schema if they request it.
    pub async fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        settings.check()?;
        match settings.address()? {
            Address::Sqlite(path) => {
                if !settings.create && !path.exists() {
                    return Err(OpenError::Missing(path.to_owned()));
                }
                Ok(Self::Sqlite(Sqlite::open(path).await?))
            }
            Address::Postgres => Ok(Self::Postgres(Postgres::open(settings).await?)),
        }
    }

    /// Returns those of these events that were recorded before, with the hashes of their content.
    pub async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.known(event_ids).await,
            Self::Postgres(postgres) => postgres.known(event_ids).await,
        }
    }

    /// Commits a group in one transaction. Returns the receipts in the order of the batches. A panic counts as a
    /// refusal, so that a bug in Belfry that one event triggers affects only that event.
    pub(crate) async fn commit(&self, group: &[Batch], now_ms: i64) -> Result<Vec<BatchReceipt>, StoreError> {
        let committing = async {
            crash_point!("commit.begin");
            match self {
                Self::Sqlite(sqlite) => sqlite.commit(group, now_ms).await,
                Self::Postgres(postgres) => postgres.commit(group, now_ms).await,
            }
        };
        AssertUnwindSafe(committing).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Stages an event as a commit would, and rolls back. Fails if the database cannot hold the event.
    pub(crate) async fn try_out(&self, submission: &Submission, now_ms: i64) -> Result<(), StoreError> {
        let trying = async {
            match self {
                Self::Sqlite(sqlite) => sqlite.try_out(submission, now_ms).await,
                Self::Postgres(postgres) => postgres.try_out(submission, now_ms).await,
            }
        };
        AssertUnwindSafe(trying).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Commits a transaction that changes nothing. Fails if nothing can be committed.
    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.try_to_write().await,
            Self::Postgres(postgres) => postgres.try_to_write().await,
        }
    }

    /// Checks that the database file is still the one that was opened. A server takes care of its own files.
    pub(crate) fn check_file(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_file(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Writes pending data back, and closes the database.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}

fn panicked() -> StoreError {
    StoreError::Refused("belfry failed during the commit, which is a bug in belfry".into())
}
