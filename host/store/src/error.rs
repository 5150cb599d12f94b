use std::path::PathBuf;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no known kind of database.
    #[error("{0}: unknown kind of store; use sqlite:PATH, such as sqlite:belfry.db")]
    UnknownUrl(String),
    /// The directory or the lock file cannot be used.
    #[error("cannot use {0}: {1}; check that the directory exists and is writable")]
    File(PathBuf, std::io::Error),
    /// Another process has it.
    #[error("{0} is in use by another belfry; stop that one, or give this one a [store] url of its own")]
    Locked(PathBuf),
    /// The schema cannot be brought up to date.
    #[error("cannot migrate the schema: {0}; a database of a newer belfry needs that version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database refuses.
    #[error("cannot open the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// The database could not do what was asked. Nothing of the request took effect unless its commit was lost.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the database failed: {0}")]
pub struct StoreError(pub String);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
