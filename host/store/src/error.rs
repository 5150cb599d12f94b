use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

/// An error that prevents a store from being opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names an unknown kind of database.
    #[error("{0}: unknown kind of store; use sqlite:PATH, such as sqlite:belfry.db, or postgres://USER@HOST/DATABASE")]
    UnknownUrl(String),
    /// The URL names no file.
    #[error("store.url: the file name for SQLite is missing; use sqlite:PATH, such as sqlite:belfry.db")]
    NoFile,
    /// The URL names a database in memory, which ends with the process.
    #[error(
        "store.url: a database in memory loses acknowledged events when the process ends; use sqlite:PATH, such as \
         sqlite:belfry.db"
    )]
    InMemory,
    /// The URL uses SQLite's own URI syntax.
    #[error("store.url: SQLite URIs and their parameters are not supported; use sqlite:PATH, such as sqlite:belfry.db")]
    Parameters,
    /// A file that the URL names cannot be read.
    #[error("store.url: cannot read {0}: {1}; check that it exists and belfry may read it")]
    Certificate(PathBuf, std::io::Error),
    /// The URL cannot be parsed. It is not quoted because it may hold a password.
    #[error(
        "store.url: not a database URL; use postgres://USER@HOST:PORT/DATABASE, and a password file for the password"
    )]
    Address,
    /// The database does not exist, and the settings do not allow creating it.
    #[error("there is no database {0}; check [store] url, or run `belfry serve` to create it")]
    Missing(PathBuf),
    /// The directory or the lock file cannot be used.
    #[error("cannot use {0}: {1}; check that the directory exists and is writable")]
    File(PathBuf, std::io::Error),
    /// Another process uses the database.
    #[error("{0} is in use by another belfry; stop that process, or give this one its own [store] url")]
    Locked(PathBuf),
    /// The schema cannot be migrated.
    #[error("cannot migrate the schema: {0}; a database that a newer belfry migrated needs that version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The schema is older than this program requires, and this program may not migrate it.
    #[error("the schema is at version {found}, this belfry needs version {needed}; run `belfry migrate` first")]
    OldSchema {
        /// The version of the database.
        found: i64,
        /// The version that this program requires.
        needed: i64,
    },
    /// The server is too old.
    #[error("PostgreSQL {0} is too old; use 15 or newer")]
    OldServer(String),
    /// An invariant of the schema was changed manually.
    #[error("the schema was changed: {0}")]
    Changed(String),
    /// The database returned an error.
    #[error("cannot open the database: {}", with_remedy(.0))]
    Database(#[from] sqlx::Error),
}

/// Returns the error with a remedy. The address is not quoted because it may hold a password.
fn with_remedy(error: &sqlx::Error) -> String {
    // An invalid password, or no entry for the user in pg_hba.conf.
    const REFUSED: [&str; 2] = ["28P01", "28000"];
    let message = error.to_string();
    let code = error.as_database_error().and_then(|error| error.code());
    let remedy = match error {
        _ if code.is_some_and(|code| REFUSED.contains(&&*code)) => {
            "check user and password in its url or url_file, and the server's pg_hba.conf"
        }
        sqlx::Error::Tls(_) => ENCRYPTION,
        sqlx::Error::Io(_) if message.contains("certificate") => ENCRYPTION,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => "start the server, or correct the host and port in its url",
        _ => return message,
    };
    format!("{message}; {remedy}")
}

const ENCRYPTION: &str =
    "check sslmode and sslrootcert in its url, and that the host in it matches the server's certificate";

/// Why a database request failed. Nothing of the request took effect unless the response to its commit was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot process the request now. The same request may succeed later.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The database can never hold a value of this request.
    #[error("the database refuses a value: {0}")]
    Refused(String),
}

impl StoreError {
    /// Returns whether the request is at fault, not the database: no other request is affected, and retrying is
    /// useless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_refusal(&error) { Self::Refused(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// Returns whether the value of a parameter or column is at fault.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => is_refused_by_postgres(error.code()),
            None => error.code().is_some_and(|code| is_refused_by_sqlite(&code)),
        },
        _ => false,
    }
}

/// SQLSTATE classes: data exception; integrity constraint violation; program limit exceeded, such as a key that is too
/// long for an index. The server returns 08P01 for a message that is larger than it accepts.
fn is_refused_by_postgres(code: &str) -> bool {
    ["22", "23", "54"].iter().any(|class| code.starts_with(class)) || code == "08P01"
}

/// The primary result codes SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH; the driver reports extended codes, whose
/// low byte is the primary one.
fn is_refused_by_sqlite(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|code| [18, 19, 20].contains(&(code & 0xff)))
}
