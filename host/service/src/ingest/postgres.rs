//! Events that other services submitted within their own transactions, in databases of their own.
//!
//! One replica at a time reads a service's database, under a lease: read the lowest rows → commit them to the log → delete
//! them there → again. Whatever happens between two of these steps, the rows are read again, and the inbox knows what it
//! has. So the lease is not what keeps events from being taken twice; it keeps replicas from doing the same work.
//!
//! Nobody tells us that something was submitted: PostgreSQL's NOTIFY makes all transactions of a server that use it
//! commit one after the other. So we look, often while there is something, and less and less while there is nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use belfry_store::{
    Lease, Origin, Submitted, SubmittedError, SubmittedEvent, SubmittedSettings, Unreadable, crash_point,
};
use tokio::sync::watch;

use super::{Arrival, Incoming, NotAnEvent};
use crate::config::{Config, SecretError};
use crate::heartbeat::Heartbeat;
use crate::lease;
use crate::pipeline::{NotTaken, Pipeline, Reading};
use crate::redis::Others;
use crate::stopping::stopped;

/// Rows read at once, and what their envelopes may have together.
const READ_ROWS: u32 = 500;
const READ_BYTES: u32 = 4 << 20;
/// The bounds of the pause between two looks at a table where nothing was.
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(1);
/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A service's database cannot be read from, whatever it holds.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its address.
    #[error("source.postgres {name}: {error}")]
    Address {
        /// The source.
        name: String,
        /// What is wrong with it.
        error: SubmittedError,
    },
    /// The file with its address.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// One service's database.
pub(crate) struct PostgresSource {
    /// Names its lease, and where dead letters come from: `postgres:NAME`.
    name: String,
    settings: SubmittedSettings,
    pipeline: Pipeline,
    heartbeat: Heartbeat,
    others: Others,
    max_event_bytes: usize,
    longest_pause: Duration,
}

/// How a session under one lease ended.
enum End {
    Stopped,
    LeaseLost,
}

/// Why a session failed. Nothing is lost by it: the rows are still there.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the service's database: {0}")]
    Submitted(#[from] SubmittedError),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
}

impl PostgresSource {
    /// All that are configured.
    pub(crate) fn all(
        config: &Config,
        pipeline: &Pipeline,
        heartbeat: &Heartbeat,
        others: &Others,
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
                longest_pause: Duration::from_millis(config.delivery.backoff_max_ms),
            })
        };
        config.source.postgres.iter().map(of).collect()
    }

    /// Make its lease known. A position it has not: rows are deleted, not passed.
    pub(crate) async fn register(&self) -> Result<(), belfry_store::StoreError> {
        if self.pipeline.store.register_sink(&self.name, 0).await? {
            self.heartbeat.look();
        }
        Ok(())
    }

    /// Read whenever the lease is to be had, until the service stops.
    pub(crate) async fn run(&self, mut stopping: watch::Receiver<bool>) {
        let held = metrics::gauge!("belfry_lease_held", "sink" => self.name.clone());
        let mut failures = 0;
        loop {
            held.set(0.0);
            let lease = tokio::select! {
                lease = lease::take(&self.pipeline.store, &self.heartbeat, &self.name) => lease,
                () = stopped(&stopping) => return,
            };
            let (lease, deadline) = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    failures += 1;
                    self.pause(failures, &error, &mut stopping).await;
                    continue;
                }
            };
            held.set(1.0);
            let mut session = Session { source: self, lease: &lease, deadline, failures };
            let end = session.run(&mut stopping).await;
            failures = session.failures;
            match end {
                Ok(End::Stopped) => return self.give_back(&lease).await,
                Ok(End::LeaseLost) => {
                    tracing::warn!(
                        source = self.name,
                        epoch = lease.epoch,
                        "the lease is lost; somebody else reads it"
                    );
                }
                Err(error) => {
                    // Somebody else may reach what we do not.
                    self.give_back(&lease).await;
                    failures += 1;
                    self.pause(failures, &error, &mut stopping).await;
                }
            }
        }
    }

    async fn give_back(&self, lease: &Lease) {
        match self.pipeline.store.release_lease(&self.name, lease.epoch).await {
            Ok(()) => self.others.lease_is_free(),
            Err(error) => {
                tracing::warn!(source = self.name, %error, "the lease could not be given back; it ends by itself");
            }
        }
    }

    /// A random time, so that replicas do not come back together, of a span that doubles with each failure.
    async fn pause(&self, failures: u32, error: &impl std::fmt::Display, stopping: &mut watch::Receiver<bool>) {
        let span = (FIRST_PAUSE * 2u32.saturating_pow(failures.min(16))).min(self.longest_pause);
        let pause = span.mul_f64(0.1 + 0.9 * fastrand::f64());
        tracing::warn!(source = self.name, %error, pause_ms = pause.as_millis() as u64, "the source waits and is tried again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(stopping) => {}
        }
    }

    /// What a row holds is an event, or becomes a dead letter.
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
                // A fault of ours costs that event only, which would be read again for ever otherwise.
                Err(_) => reading.unreadable.push(Unreadable::fault(&origin, Some(event_id), envelope)),
            }
        }
        reading
    }
}

/// One run under one lease, over one connection.
struct Session<'a> {
    source: &'a PostgresSource,
    lease: &'a Lease,
    deadline: Instant,
    /// In a row, before this session and in it.
    failures: u32,
}

impl Session<'_> {
    async fn run(&mut self, stopping: &mut watch::Receiver<bool>) -> Result<End, Failure> {
        let mut submitted = Submitted::connect(&self.source.settings).await?;
        let end = self.read(&mut submitted, stopping).await;
        submitted.close().await;
        end
    }

    async fn read(&mut self, submitted: &mut Submitted, stopping: &mut watch::Receiver<bool>) -> Result<End, Failure> {
        let mut pause = QUICKEST;
        loop {
            if *stopping.borrow() {
                return Ok(End::Stopped);
            }
            if !self.is_ours() {
                return Ok(End::LeaseLost);
            }
            let rows = submitted.read(READ_ROWS, READ_BYTES).await?;
            self.failures = 0;
            if rows.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped(stopping) => {}
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
        self.deadline = lease::renewed(&self.source.heartbeat, &self.source.name, self.lease, self.deadline);
        Instant::now() < self.deadline
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("belfry_events_total", "source" => "postgres", "outcome" => outcome).increment(1);
}
