//! Events that other services submitted within their own transactions, in their own databases.
//!
//! One replica at a time reads a service's database, under a lease. It repeats three steps: read the lowest rows, commit
//! them to the log, delete them from the service's database. After any failure between two steps the rows are read again,
//! and the inbox deduplicates them. So the lease is not what prevents duplicates; it keeps replicas from doing the same
//! work.
//!
//! Submissions are not announced: PostgreSQL's NOTIFY serializes the commits of all transactions of a server that use it.
//! Instead, the source polls frequently while there are rows, and backs off while there are none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use belfry_store::{
    Lease, Origin, Submitted, SubmittedError, SubmittedEvent, SubmittedSettings, Unreadable, crash_point,
};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::{Config, SecretError};
use crate::heartbeat::Heartbeat;
use crate::incoming::{Arrival, Incoming, NotAnEvent};
use crate::lease_keeper;
use crate::pipeline::{IngestError, Pipeline, Reading};
use crate::redis::PeerSignals;

/// Maximum number of rows per read, and maximum total size of their envelopes in bytes.
const READ_ROWS: u32 = 500;
const READ_BYTES: u32 = 4 << 20;
/// The bounds of the pause after a poll that found no rows.
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(1);

/// Why a service's database cannot be read, regardless of its contents.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its address is invalid.
    #[error("source.postgres {name}: {error}")]
    Address {
        /// The name of the source.
        name: String,
        /// What is wrong with it.
        error: SubmittedError,
    },
    /// The file with its address cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// One service's database.
pub(crate) struct PostgresSource {
    /// `postgres:NAME`: the name of its lease, and the origin of its dead letters.
    name: String,
    settings: SubmittedSettings,
    pipeline: Pipeline,
    heartbeat: Heartbeat,
    others: PeerSignals,
    max_event_bytes: usize,
    backoff: Backoff,
}

/// How a session under one lease ended.
enum End {
    Stopped,
    LeaseLost,
}

/// Why a session failed. Nothing is lost: the rows are still in the service's database.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the service's database: {0}")]
    Submitted(#[from] SubmittedError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl PostgresSource {
    /// Returns a source for each configured database.
    pub(crate) fn all(
        config: &Config,
        pipeline: &Pipeline,
        heartbeat: &Heartbeat,
        others: &PeerSignals,
    ) -> Result<Vec<Self>, SourceError> {
        let of = |source: &crate::config::PostgresSource| {
            let settings = SubmittedSettings {
                url: source.address()?,
                connect_timeout: Duration::from_millis(config.store.connect_timeout_ms),
                statement_timeout: Duration::from_millis(config.store.statement_timeout_ms),
            };
            settings.check().map_err(|error| SourceError::Address { name: source.name.clone(), error })?;
            Ok(Self {
                name: format!("postgres:{}", source.name),
                settings,
                pipeline: pipeline.clone(),
                heartbeat: heartbeat.clone(),
                others: others.clone(),
                max_event_bytes: config.ingest.max_event_bytes,
                backoff: Backoff::up_to(Duration::from_millis(config.delivery.backoff_max_ms)),
            })
        };
        config.source.postgres.iter().map(of).collect()
    }

    /// Registers its lease. The lease has no position, because rows are deleted rather than passed.
    pub(crate) async fn register(&self) -> Result<(), belfry_store::StoreError> {
        if self.pipeline.store.register_sink(&self.name, 0).await? {
            self.heartbeat.look();
        }
        Ok(())
    }

    /// Reads whenever the lease is available, until the service stops.
    pub(crate) async fn run(&self, stopping: CancellationToken) {
        let held = metrics::gauge!("belfry_lease_held", "sink" => self.name.clone());
        let mut backoff = self.backoff.clone();
        loop {
            held.set(0.0);
            let lease = tokio::select! {
                lease = lease_keeper::take(&self.pipeline.store, &self.heartbeat, &self.name) => lease,
                () = stopping.cancelled() => return,
            };
            let (lease, deadline) = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    self.pause(backoff.after_failure(), &error, &stopping).await;
                    continue;
                }
            };
            held.set(1.0);
            let mut session = Session { source: self, lease: &lease, deadline, backoff: &mut backoff };
            let end = session.run(&stopping).await;
            match end {
                Ok(End::Stopped) => return self.give_back(&lease).await,
                Ok(End::LeaseLost) => {
                    tracing::warn!(
                        source = self.name,
                        epoch = lease.epoch,
                        "the lease is lost; another replica reads the source"
                    );
                }
                Err(error) => {
                    // Another replica may be able to reach the database.
                    self.give_back(&lease).await;
                    self.pause(backoff.after_failure(), &error, &stopping).await;
                }
            }
        }
    }

    async fn give_back(&self, lease: &Lease) {
        lease_keeper::give_back(&self.pipeline.store, &self.others, &self.name, lease).await;
    }

    async fn pause(&self, pause: Duration, error: &impl std::fmt::Display, stopping: &CancellationToken) {
        tracing::warn!(source = self.name, %error, pause_ms = pause.as_millis() as u64, "the source failed; retrying after a pause");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Turns rows into events. A row that is not an event becomes a dead letter.
    fn reading(&self, rows: Vec<SubmittedEvent>) -> Reading {
        let mut reading = Reading::default();
        for SubmittedEvent { id, event_id, event_key, topic, envelope } in rows {
            let origin = Origin { topic: self.name.clone(), partition: 0, offset: id };
            let arrival = Arrival::Submitted { origin: origin.clone(), event_key, topic };
            let read = || Incoming::read(envelope.clone(), self.max_event_bytes, arrival);
            match catch_unwind(AssertUnwindSafe(read)) {
                Ok(Ok(event)) => reading.events.push(event),
                Ok(Err(refused)) => {
                    reading.unreadable.push(Unreadable {
                        topic: self.name.clone(),
                        partition: 0,
                        offset: id,
                        event_id: Some(event_id),
                        cause: match &refused {
                            NotAnEvent::Malformed(malformed) => malformed.outcome.as_str(),
                            NotAnEvent::TooLarge { .. } => belfry_model::Outcome::Malformed.as_str(),
                        },
                        detail: refused.to_string(),
                        payload: envelope,
                    });
                }
                // A bug in Belfry costs only this event. Uncaught, it would make the row be read again for ever.
                Err(_) => reading.unreadable.push(Unreadable::fault(&origin, Some(event_id), envelope)),
            }
        }
        reading
    }
}

/// One session: one lease, one connection.
struct Session<'a> {
    source: &'a PostgresSource,
    lease: &'a Lease,
    deadline: Instant,
    /// Begins again once the database answers.
    backoff: &'a mut Backoff,
}

impl Session<'_> {
    async fn run(&mut self, stopping: &CancellationToken) -> Result<End, Failure> {
        let mut submitted = Submitted::connect(&self.source.settings).await?;
        let end = self.read(&mut submitted, stopping).await;
        submitted.close().await;
        end
    }

    async fn read(&mut self, submitted: &mut Submitted, stopping: &CancellationToken) -> Result<End, Failure> {
        let mut pause = QUICKEST;
        loop {
            if stopping.is_cancelled() {
                return Ok(End::Stopped);
            }
            if !self.is_ours() {
                return Ok(End::LeaseLost);
            }
            let rows = submitted.read(READ_ROWS, READ_BYTES).await?;
            self.backoff.reset();
            if rows.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopping.cancelled() => {}
                }
                pause = (pause * 2).min(SLOWEST);
                continue;
            }
            pause = QUICKEST;
            if !self.is_ours() {
                return Ok(End::LeaseLost);
            }
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let reading = self.source.reading(rows);
            let refused: Vec<&'static str> = reading.unreadable.iter().map(|unreadable| unreadable.cause).collect();
            let taken = self.source.pipeline.begin_reading(reading).await?.finish().await?;
            taken.iter().for_each(|taken| count(taken.outcome()));
            refused.into_iter().for_each(count);
            crash_point!("source.postgres.before-delete");
            submitted.delete(&ids).await?;
        }
    }

    fn is_ours(&mut self) -> bool {
        self.deadline = lease_keeper::renewed(&self.source.heartbeat, &self.source.name, self.lease, self.deadline);
        Instant::now() < self.deadline
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("belfry_events_total", "source" => "postgres", "outcome" => outcome).increment(1);
}
