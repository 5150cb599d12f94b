//! The relay reads the log from its sink's position and sends the entries in order, as long as it holds the sink's lease.
//!
//! The **heartbeat** shows who holds the lease, and renews it. The **reader** reads pages of the log ahead. The **session**
//! sends them through an open **sink**, collects acknowledgements, and stores checkpoints of the position up to which all
//! entries are acknowledged. After any failure the session ends, discards its state and is restarted from the database:
//! entries may then be sent twice, in the same order, and none is skipped.

mod held_topics;
mod in_flight;
mod link;
mod reader;
mod sending;
mod session;
mod suspects;
mod unpark;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use belfry_model::sabotaged;
use belfry_store::{Backlog, Lease, MAX_BACKLOG, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::health::{BreakerState, SinkHealth, SinkHealthTracker};
use super::sink::{SinkError, SinkSettings};
use crate::clock::rfc3339;
use crate::config::Resume;
use crate::heartbeat::Heartbeat;
use crate::lease_keeper;
use crate::redis::PeerSignals;
use held_topics::Known;
use link::Link;
use session::Session;
use suspects::Suspects;

/// The interval at which a sink that an operator has to correct is retried.
const BARRED_PAUSE: Duration = Duration::from_secs(5);
/// After this number of consecutive failures another replica may try: the cause may be local to this one.
const FAILURES_BEFORE_GIVING_WAY: u32 = 3;
/// How long this replica then leaves the lease to others.
const GIVING_WAY: Duration = Duration::from_secs(5);

/// The relay of one sink.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) store: Store,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) others: PeerSignals,
    pub(crate) sink: SinkSettings,
    /// The time without an acknowledgement after which the session is abandoned.
    pub(crate) stall: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) health: watch::Sender<SinkHealth>,
    /// Where the sink resumes if it was disabled while entries were recorded.
    pub(crate) resume: Option<Resume>,
}

/// How a session ended.
enum End {
    /// The service stops, and all entries sent are acknowledged.
    Stopped,
    /// Another replica serves the sink now, or may do so.
    LeaseLost,
    /// The session has to be restarted.
    Failed(Failure),
}

/// Why a session failed.
enum Failure {
    Store(StoreError),
    Sink(SinkError),
    /// The sink refused entries that were sent together.
    Refused(Suspects),
    /// The sink accepts nothing of these topics, for these reasons.
    Topics(BTreeMap<String, String>),
    /// The sink refused entries, which is already noted, and accepts nothing more from this producer.
    Noted,
}

impl Failure {
    /// Returns the failure of a session whose sink accepts nothing of a topic.
    fn topic(topic: String, reason: String) -> Self {
        Self::Topics(BTreeMap::from([(topic, reason)]))
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Relay {
    /// Registers the sink, at the end of the log if it is new. Returns whether it may be served.
    pub(crate) async fn register(&self) -> Result<bool, StoreError> {
        let (sink, end) = (self.sink.name(), *self.heartbeat.log_end().borrow());
        if self.store.register_sink(sink, end).await? {
            tracing::info!(sink, position = end, "a new sink begins at the end of the log");
            self.heartbeat.look();
            return Ok(true);
        }
        match (self.store.backlog(sink).await?, self.resume) {
            (None, _) => Ok(true),
            (Some(Backlog { entries, .. }), Some(Resume::Position)) => {
                tracing::info!(sink, entries, "the sink was disabled; it is sent the entries that it missed");
                Ok(true)
            }
            (Some(_), Some(Resume::End)) => {
                let entries = self.store.skip_backlog(sink).await?;
                tracing::warn!(sink, entries, "the sink was disabled; it never gets the entries that it missed");
                Ok(true)
            }
            (Some(backlog), None) => {
                self.wait_for_a_word(backlog);
                Ok(false)
            }
        }
    }

    /// Reports that an operator has to decide about entries that were recorded while the sink was disabled: they may have
    /// been published in another way in the meantime.
    fn wait_for_a_word(&self, Backlog { entries, off_since_ms }: Backlog) {
        let (sink, since) = (self.sink.name(), rfc3339(off_since_ms));
        let at_least = if entries >= MAX_BACKLOG { "at least " } else { "" };
        let error = format!(
            "the sink has been disabled since {since}, and would be sent {at_least}{entries} entries; set \
             sink.{sink}.resume to \"position\" to send them, or to \"end\" to skip them, and restart"
        );
        tracing::error!(sink, entries, error, "the sink is not served");
        metrics::gauge!("belfry_breaker_state", "sink" => sink).set(BreakerState::Open.number());
        self.health.send_modify(|health| {
            health.breaker = BreakerState::Open;
            health.error = Some(error);
        });
    }

    /// Serves the sink whenever the lease is available, until the service stops.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let sink = self.sink.name();
        let mut health = SinkHealthTracker::new(sink, self.longest_pause, self.health.clone());
        let mut suspects = BTreeSet::new();
        let mut known = Known::default();
        loop {
            let held = metrics::gauge!("belfry_lease_held", "sink" => sink);
            held.set(0.0);
            let lease = tokio::select! {
                lease = lease_keeper::take(&self.store, &self.heartbeat, sink) => lease,
                () = stopping.cancelled() => return,
            };
            let (lease, deadline) = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    self.pause(health.failed(&error), &error, &stopping).await;
                    continue;
                }
            };
            held.set(1.0);
            health.try_again();
            suspects.retain(|position| *position > lease.position);
            let end = match Link::open(&self.sink, self.stall, &mut health).await {
                Ok(link) => {
                    let (lease, suspects, stopping) = (lease.clone(), suspects.clone(), stopping.clone());
                    Session::new(&self, &mut known, link, lease, deadline, suspects, stopping).run().await
                }
                Err(error) => End::Failed(Failure::Sink(error)),
            };
            match end {
                End::Stopped => return lease_keeper::give_back(&self.store, &self.others, sink, &lease).await,
                End::LeaseLost => {
                    tracing::warn!(sink, epoch = lease.epoch, "the lease is lost; another replica serves the sink");
                    known = Known::default();
                    self.show_held(&known);
                }
                End::Failed(Failure::Store(error)) => self.pause(health.failed(&error), &error, &stopping).await,
                End::Failed(Failure::Sink(error)) => {
                    let mut pause = health.failed(&error);
                    if let SinkError::Misconfigured(_) = error {
                        tracing::error!(sink, %error, "the sink is stopped until an operator corrects this");
                        pause = BARRED_PAUSE;
                    }
                    if self.gives_way(&health, &lease).await {
                        pause = pause.max(GIVING_WAY);
                        held.set(0.0);
                    }
                    self.pause(pause, &error, &stopping).await;
                }
                End::Failed(Failure::Topics(topics)) => {
                    for (topic, reason) in topics {
                        known.held.refused(&topic, &reason);
                    }
                    self.show_held(&known);
                }
                End::Failed(Failure::Refused(Suspects { positions, reason })) => {
                    let entries = positions.len();
                    tracing::warn!(sink, reason, entries, "entries were refused together; they are sent one at a time");
                    suspects.extend(positions);
                }
                End::Failed(Failure::Noted) => {}
            }
        }
    }

    /// Releases the lease after a number of consecutive failures. Returns whether it did. If no other replica takes the
    /// lease, or none can serve the sink either, this one takes it again.
    async fn gives_way(&self, health: &SinkHealthTracker, lease: &Lease) -> bool {
        let sink = self.sink.name();
        let is_alone = matches!(self.store, Store::Sqlite(_));
        if is_alone || sabotaged("give-way") || !health.failures().is_multiple_of(FAILURES_BEFORE_GIVING_WAY) {
            return false;
        }
        match self.store.lend_lease(sink, lease.epoch).await {
            Ok(()) => {
                let failures = health.failures();
                tracing::warn!(
                    sink,
                    failures,
                    "this replica cannot serve the sink; releasing the lease to other replicas"
                );
                self.others.lease_is_free();
                true
            }
            Err(error) => {
                tracing::warn!(sink, %error, "cannot release the lease; it expires automatically");
                false
            }
        }
    }

    /// Shows operators which topics are held back.
    fn show_held(&self, known: &Known) {
        let reasons = known.held.reasons();
        metrics::gauge!("belfry_held_topics", "sink" => self.sink.name()).set(reasons.len() as f64);
        self.health.send_modify(|health| health.held = reasons);
    }

    async fn pause(&self, pause: Duration, error: &impl std::fmt::Display, stopping: &CancellationToken) {
        tracing::warn!(sink = self.sink.name(), %error, pause_ms = pause.as_millis() as u64, "the sink failed; retrying after a pause");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => {}
        }
    }
}
