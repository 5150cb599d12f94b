use std::time::Duration;

use crate::{NewChange, Store, StoreError};

/// A sink that is known: what it has not read is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name, such as `kafka`.
    pub name: String,
    /// How far it has been served.
    pub position: i64,
    /// The age of the oldest entry that it has not read.
    pub unread_for: Option<Duration>,
    /// How many positions behind its own are no longer in the log.
    pub missing: i64,
    /// How many of its entries are parked.
    pub parked: i64,
}

/// What became of a request to forget a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetSink {
    /// It is not known any more. If it is ever enabled again, it begins at the end of the log.
    Forgotten,
    /// There is no such sink.
    Unknown,
    /// A replica serves it.
    Served,
}

/// What became of a request to go on behind entries that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipGap {
    /// The sink goes on after this position; this many positions are passed over.
    Skipped {
        /// The last position that is gone.
        position: i64,
        /// Positions passed over.
        missing: i64,
    },
    /// Nothing that it has not read is gone.
    NoGap,
    /// There is no such sink.
    Unknown,
}

impl Store {
    /// All sinks that are known, by name.
    pub async fn sinks(&self) -> Result<Vec<Sink>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sinks().await,
            Self::Postgres(postgres) => postgres.sinks().await,
        }
    }

    /// Forget a sink with its position and its parked entries; what only it had not read may be retired then. Refused on
    /// PostgreSQL while a replica holds its lease. An embedded store has one process, which knows whether it does.
    pub async fn forget_sink(&self, name: &str, by: &str, reason: &str, now_ms: i64) -> Result<ForgetSink, StoreError> {
        let Some(sink) = self.sink(name).await? else { return Ok(ForgetSink::Unknown) };
        let change = NewChange::sink_forgotten(&sink, by, reason);
        let forgotten = match self {
            Self::Sqlite(sqlite) => sqlite.forget_sink(name, &change, now_ms).await?,
            Self::Postgres(postgres) => postgres.forget_sink(name, &change, now_ms).await?,
        };
        Ok(if forgotten { ForgetSink::Forgotten } else { ForgetSink::Served })
    }

    /// Let a sink go on behind the entries that it has not read and that are gone.
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

    /// One of the sinks.
    pub async fn sink(&self, name: &str) -> Result<Option<Sink>, StoreError> {
        Ok(self.sinks().await?.into_iter().find(|sink| sink.name == name))
    }
}
