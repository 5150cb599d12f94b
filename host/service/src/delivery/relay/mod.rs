//! The relay: reads the log from its sink's position and hands the entries over in order, as long as it holds the sink's
//! lease.
//!
//! Who does what: the **heartbeat** tells who holds the lease and renews ours. The **reader** reads pages of the log ahead.
//! The **session** sends them through an **outlet**, counts acknowledgements, and notes how far all is acknowledged. If
//! anything goes wrong, the session ends, forgets everything and is begun again from what the database says: entries may
//! then be sent twice, in the same order, and none is passed over.

mod in_flight;
mod reader;
mod session;
mod suspects;
mod unpark;

use std::collections::BTreeSet;
use std::time::Duration;

use belfry_store::{Store, StoreError};
use tokio::sync::watch;

use super::breaker::{Breaker, SinkHealth};
use super::outlet::{OutletError, OutletSettings};
use crate::heartbeat::Heartbeat;
use crate::lease;
use crate::redis::Others;
use crate::stopping::stopped;
use session::Session;
use suspects::Suspects;

/// A sink that somebody has to mend is tried again this often.
const BARRED_PAUSE: Duration = Duration::from_secs(5);

/// The relay of one sink.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) store: Store,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) others: Others,
    pub(crate) outlet: OutletSettings,
    /// Without an acknowledgement for so long, the session is given up.
    pub(crate) stall: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) health: watch::Sender<SinkHealth>,
}

/// How a session ended.
enum End {
    /// The service stops, and all is acknowledged or was waited for.
    Stopped,
    /// Somebody else serves the sink now, or may.
    LeaseLost,
    /// It has to be begun again.
    Failed(Failure),
}

/// Why a session failed.
enum Failure {
    Store(StoreError),
    Sink(OutletError),
    /// The sink refused entries that were sent together.
    Refused(Suspects),
    /// It refused an entry by itself, which is parked; it takes no more from this producer.
    Parked,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Relay {
    /// Make the sink known, at the log's end if it is new.
    pub(crate) async fn register(&self) -> Result<(), StoreError> {
        let (sink, end) = (self.outlet.sink(), *self.heartbeat.log_end().borrow());
        if self.store.register_sink(sink, end).await? {
            tracing::info!(sink, position = end, "a new sink begins at the end of the log");
            self.heartbeat.look();
        }
        Ok(())
    }

    /// Serve the sink whenever the lease is to be had, until the service stops.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let sink = self.outlet.sink();
        let mut breaker = Breaker::new(sink, self.longest_pause, self.health.clone());
        let mut suspects = BTreeSet::new();
        loop {
            let held = metrics::gauge!("belfry_lease_held", "sink" => sink);
            held.set(0.0);
            let lease = tokio::select! {
                lease = lease::take(&self.store, &self.heartbeat, sink) => lease,
                () = stopped(&stopping) => return,
            };
            let (lease, deadline) = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    self.pause(breaker.failed(&error), &error, &mut stopping).await;
                    continue;
                }
            };
            held.set(1.0);
            breaker.try_again();
            suspects.retain(|position| *position > lease.position);
            let session = Session::new(&self, lease.clone(), deadline, suspects.clone(), stopping.clone());
            match session.run(&mut breaker).await {
                End::Stopped => {
                    match self.store.release_lease(sink, lease.epoch).await {
                        Ok(()) => self.others.lease_is_free(),
                        Err(error) => {
                            tracing::warn!(sink, %error, "the lease could not be given back; it ends by itself");
                        }
                    }
                    return;
                }
                End::LeaseLost => {
                    tracing::warn!(sink, epoch = lease.epoch, "the lease is lost; somebody else serves the sink")
                }
                End::Failed(Failure::Store(error)) => self.pause(breaker.failed(&error), &error, &mut stopping).await,
                End::Failed(Failure::Sink(error @ OutletError::Away(_))) => {
                    self.pause(breaker.failed(&error), &error, &mut stopping).await;
                }
                End::Failed(Failure::Sink(error @ OutletError::Barred(_))) => {
                    breaker.failed(&error);
                    tracing::error!(sink, %error, "the sink has stopped until somebody mends this");
                    self.pause(BARRED_PAUSE, &error, &mut stopping).await;
                }
                End::Failed(Failure::Refused(Suspects { positions, reason })) => {
                    let entries = positions.len();
                    tracing::warn!(sink, reason, entries, "entries were refused together; they are sent one at a time");
                    suspects.extend(positions);
                }
                End::Failed(Failure::Parked) => {}
            }
        }
    }

    async fn pause(&self, pause: Duration, error: &impl std::fmt::Display, stopping: &mut watch::Receiver<bool>) {
        tracing::warn!(sink = self.outlet.sink(), %error, pause_ms = pause.as_millis() as u64, "the sink waits and is tried again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(stopping) => {}
        }
    }
}
