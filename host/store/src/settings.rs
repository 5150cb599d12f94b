use std::time::Duration;

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
