use crate::{Backlog, ForgetSink, NewChange, Sink, SkipGap, Store, StoreError};

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
