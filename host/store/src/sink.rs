use std::time::Duration;

use crate::{NewChange, Store, StoreError};

/// The entries that a sink missed while it was off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Number of entries to be sent, counted up to [`MAX_BACKLOG`].
    pub entries: i64,
    /// When the sink went off, in milliseconds since the Unix epoch.
    pub off_since_ms: i64,
}

/// The limit up to which a backlog is counted.
pub const MAX_BACKLOG: i64 = 1_000_000;

/// A registered sink. The log keeps the entries that it has not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name, such as `kafka`.
    pub name: String,
    /// The position up to which it has been served.
    pub position: i64,
    /// The age of the oldest entry that it has not read; `None` if there is none.
    pub unread_for: Option<Duration>,
    /// Number of positions after its own that are no longer in the log.
    pub missing: i64,
    /// Number of its entries that are parked.
    pub parked: i64,
}

/// The result of a request to forget a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetSink {
    /// The sink is no longer registered. If it is enabled again, it begins at the end of the log.
    Forgotten,
    /// No such sink is registered.
    Unknown,
    /// A replica serves the sink.
    Served,
}

/// The result of a request to skip entries that are no longer in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipGap {
    /// The sink continues after this position.
    Skipped {
        /// The last position that is no longer in the log.
        position: i64,
        /// Number of positions skipped.
        missing: i64,
    },
    /// All entries that the sink has not read are in the log.
    NoGap,
    /// No such sink is registered.
    Unknown,
}

impl Store {
    /// Registers a sink that has no position yet. It begins after `position`. Returns whether it is new.
    pub async fn register_sink(&self, sink: &str, position: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.register_sink(sink, position).await,
            Self::Postgres(postgres) => postgres.register_sink(sink, position).await,
        }
    }

    /// Returns what a sink missed while it was switched off; `None` if nothing was recorded in that time.
    pub async fn backlog(&self, sink: &str) -> Result<Option<Backlog>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.backlog(sink).await,
            Self::Postgres(postgres) => postgres.backlog(sink).await,
        }
    }

    /// Moves a sink that no replica serves to the end of the log, and records the entries that it never gets. Returns
    /// their number.
    pub async fn skip_backlog(&self, sink: &str) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.skip_backlog(sink).await,
            Self::Postgres(postgres) => postgres.skip_backlog(sink).await,
        }
    }

    /// Returns all registered sinks, ordered by name.
    pub async fn sinks(&self) -> Result<Vec<Sink>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sinks().await,
            Self::Postgres(postgres) => postgres.sinks().await,
        }
    }

    /// Removes a sink with its position and its parked entries. Entries that only this sink had not read may then be
    /// retired. On PostgreSQL, the request is refused while a replica holds the sink's lease. An embedded store has
    /// only one process, which knows whether it serves the sink.
    pub async fn forget_sink(&self, name: &str, by: &str, reason: &str, now_ms: i64) -> Result<ForgetSink, StoreError> {
        let Some(sink) = self.sink(name).await? else { return Ok(ForgetSink::Unknown) };
        let change = NewChange::sink_forgotten(&sink, by, reason);
        let forgotten = match self {
            Self::Sqlite(sqlite) => sqlite.forget_sink(name, &change, now_ms).await?,
            Self::Postgres(postgres) => postgres.forget_sink(name, &change, now_ms).await?,
        };
        Ok(if forgotten { ForgetSink::Forgotten } else { ForgetSink::Served })
    }

    /// Lets a sink skip the entries that it has not read and that are no longer in the log.
    pub async fn skip_gap(&self, name: &str, by: &str, reason: &str, now_ms: i64) -> Result<SkipGap, StoreError> {
        let Some(sink) = self.sink(name).await? else { return Ok(SkipGap::Unknown) };
        if sink.missing == 0 {
            return Ok(SkipGap::NoGap);
        }
        let position = sink.position + sink.missing;
        let change = NewChange::gap_skipped(&sink, by, reason);
        match self {
            Self::Sqlite(sqlite) => sqlite.skip_gap(name, position, &change, now_ms).await?,
            Self::Postgres(postgres) => postgres.skip_gap(name, position, &change, now_ms).await?,
        }
        Ok(SkipGap::Skipped { position, missing: sink.missing })
    }

    /// Returns one registered sink.
    pub async fn sink(&self, name: &str) -> Result<Option<Sink>, StoreError> {
        Ok(self.sinks().await?.into_iter().find(|sink| sink.name == name))
    }
}
