//! The operations of the store, which each database implements in its own SQL.

mod audit;
mod audit_log;
mod beat;
mod dead_letter;
mod delivery;
mod lease;
mod log_entry;
mod log_page;
mod parked;
mod pause;
mod range;
mod release;
mod retention;
mod rollout;
mod sink;
mod source;
mod token;
mod trial;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use belfry_model::ContentHash;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::address::Address;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{Batch, BatchReceipt, OpenError, StoreError, StoreSettings, Submission, crash_point};

/// The database, SQLite or PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// An embedded database, for one process.
    Sqlite(Sqlite),
    /// A database server, for several replicas.
    Postgres(Postgres),
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
