//! The embedded store. One process owns the database file; one connection writes, the others read.
//!
//! The log's order lock is `BEGIN IMMEDIATE`. Every commit is synced to disk before it is acknowledged
//! (`synchronous=FULL`).

mod append;
mod audit;
mod audit_log;
mod commit;
mod database_file;
mod dead_letters;
mod history;
mod leases;
mod parked;
mod read_log;
mod releases;
mod retention;
mod rollouts;
mod sinks;
mod sources;
mod tokens;
mod transaction;

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use database_file::{DatabaseFile, open_private};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::{OpenError, migrations};

const READERS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// An SQLite database in a file.
#[derive(Clone)]
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    file: Arc<DatabaseFile>,
    /// Held as long as the store is used. The system releases it when the process ends, however it ends.
    lock: Arc<File>,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let file = Arc::new(DatabaseFile::open(path)?);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", "-8000");
        let pool = |connections| {
            let file = file.clone();
            // A connection that stays open keeps its prepared statements.
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .after_connect(move |_, _| {
                    let checked = file.check().map_err(|error| sqlx::Error::Configuration(error.into()));
                    Box::pin(std::future::ready(checked))
                })
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        migrations::SQLITE.run(&writer).await?;
        let readers = pool(READERS).min_connections(1).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers, file, lock: Arc::new(lock) })
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        // Remaining clones of this store can no longer write.
        let _ = self.lock.unlock();
    }
}

/// Rejects a second process: each of two writers would mistake the other's rows for its own.
fn lock(database: &Path) -> Result<File, OpenError> {
    let mut path: OsString = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| OpenError::File(directory.to_owned(), error))?;
    }
    let file = open_private(&path).map_err(|error| OpenError::File(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(database.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::File(path, error)),
    }
}
