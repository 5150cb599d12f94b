//! One session of the relay, under one lease and with one open sink.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use belfry_model::sabotaged;
use belfry_store::{Lease, RelayEntry, StoreError, crash_point, now_ms};
use tokio_util::sync::CancellationToken;

use super::held_topics::Known;
use super::in_flight::InFlight;
use super::link::Link;
use super::reader::read;
use super::suspects::Refusals;
use super::{End, Failure, Relay};
use crate::delivery::sink::{Ack, SinkError};
use crate::heartbeat::{Seen, lease_deadline};

/// The interval between checkpoints while there is progress. Entries after the last checkpoint are sent again after a
/// crash.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);
/// How often the lease, and whether the sink stalls, are checked while nothing else happens.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Number of parked and expired entries waiting for a checkpoint that triggers one at once.
const MAX_UNNOTED: usize = 5000;

pub(super) struct Session<'a> {
    pub(super) relay: &'a Relay,
    /// State from earlier sessions.
    pub(super) known: &'a mut Known,
    pub(super) link: Link<'a>,
    /// The sink's name.
    pub(super) sink: &'static str,
    pub(super) lease: Lease,
    deadline: Instant,
    /// Positions of entries that were refused together. Each is sent while no other entry is in flight.
    pub(super) suspects: BTreeSet<i64>,
    pub(super) refusals: Refusals,
    stopping: CancellationToken,
    pub(super) in_flight: InFlight,
    /// Topics and keys whose later entries must wait.
    pub(super) blocked: HashSet<(String, String)>,
    /// Whether operators may have requested parked entries that are not sent or discarded yet.
    pub(super) more_to_unpark: bool,
    noted_position: i64,
    noted_at: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        relay: &'a Relay,
        known: &'a mut Known,
        link: Link<'a>,
        lease: Lease,
        deadline: Instant,
        suspects: BTreeSet<i64>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            relay,
            known,
            link,
            sink: relay.sink.name(),
            deadline,
            suspects,
            refusals: Refusals::default(),
            stopping,
            in_flight: InFlight::new(lease.position),
            blocked: HashSet::new(),
            more_to_unpark: true,
            noted_position: lease.position,
            noted_at: Instant::now(),
            lease,
        }
    }

    /// Serves the sink until the session ends. Entries that were sent but not acknowledged by then may still arrive.
    pub(super) async fn run(mut self) -> End {
        let end = self.serve().await;
        // After closing the sink all refusals are known, regardless of what ended the session and of the order of the
        // acknowledgements.
        for Ack { number, result } in self.link.close().await {
            if let (Err(refused), Some(position)) = (result, self.in_flight.position_of(number)) {
                self.refusals.note(position, &refused);
            }
        }
        let topics = self.refusals.topics();
        match (end, self.refusals.suspects()) {
            (Ok(end), _) => end,
            (Err(Failure::Store(error)), _) => End::Failed(Failure::Store(error)),
            (Err(_), _) if !topics.is_empty() => End::Failed(Failure::Topics(topics)),
            (Err(_), Some(refused)) => End::Failed(Failure::Refused(refused)),
            (Err(failure), None) => End::Failed(failure),
        }
    }

    /// Fails if entries that the sink has not read are no longer in the log: they must not be skipped silently.
    async fn refuse_gap(&self) -> Result<(), Failure> {
        let missing = self.relay.store.sink(self.sink).await?.map_or(0, |sink| sink.missing);
        metrics::gauge!("belfry_sink_missing_entries", "sink" => self.sink).set(missing as f64);
        if missing == 0 {
            return Ok(());
        }
        Err(Failure::Sink(SinkError::Misconfigured(format!(
            "{missing} entries after position {} are no longer in the log, and this sink has not read them; \
             `belfry audit` lists what is missing, and `belfry sink resume {}` continues after them",
            self.lease.position, self.sink
        ))))
    }

    async fn serve(&mut self) -> Result<End, Failure> {
        self.refuse_gap().await?;
        self.look_at_parked().await?;
        let log_end = self.relay.heartbeat.log_end().subscribe();
        let mut pages = read(self.relay.store.clone(), &self.lease, log_end.clone());
        let mut stop_at = None;
        let (mut seen_changes, stopping) = (self.relay.heartbeat.seen(), self.stopping.clone());
        loop {
            if Instant::now() >= self.deadline {
                return Ok(End::LeaseLost);
            }
            if stop_at.is_none() && stopping.is_cancelled() {
                stop_at = Some(*log_end.borrow());
            }
            if stop_at.is_some_and(|stop_at| self.in_flight.position() >= stop_at) {
                return if self.checkpoint().await? { Ok(End::Stopped) } else { Ok(End::LeaseLost) };
            }
            let seen = seen_changes.borrow_and_update().clone();
            self.renew(&seen);
            let paused = seen.lease(self.sink).is_some_and(|(lease, _)| lease.paused);
            // Parked entries are sent between two reads: no entry may be in flight then.
            let may_unpark = !paused || sabotaged("paused-sink");
            let parked_are_due = may_unpark && stop_at.is_none() && self.parked_are_due(seen.beat.parked_requests);
            if parked_are_due && self.in_flight.is_settled() {
                if !self.checkpoint().await? {
                    return Ok(End::LeaseLost);
                }
                self.serve_parked(seen.beat.parked_requests).await?;
                // The log has its turn as well, regardless of the number of parked entries.
                if let Ok(page) = pages.try_recv() {
                    self.send(page?).await?;
                }
                continue;
            }
            if paused && stop_at.is_some() && self.in_flight.is_settled() {
                // The next holder of the lease handles the backlog.
                return if self.checkpoint().await? { Ok(End::Stopped) } else { Ok(End::LeaseLost) };
            }
            let dirty = self.in_flight.position() > self.noted_position;
            tokio::select! {
                biased;
                Some(ack) = self.link.acks.recv() => self.acknowledge_all(ack)?,
                () = tokio::time::sleep_until((self.noted_at + CHECKPOINT_EVERY).into()), if dirty => {}
                page = pages.recv(), if self.in_flight.has_room() && !parked_are_due && !paused => {
                    let page = page.ok_or_else(|| StoreError::Failed("the reader of the log has stopped".into()))??;
                    self.send(page).await?;
                }
                _ = seen_changes.changed() => {}
                () = stopping.cancelled(), if stop_at.is_none() => {}
                () = tokio::time::sleep(WATCH_EVERY) => {}
            }
            let due = self.noted_at.elapsed() >= CHECKPOINT_EVERY || self.in_flight.unnoted() >= MAX_UNNOTED;
            if self.in_flight.position() > self.noted_position && due && !self.checkpoint().await? {
                return Ok(End::LeaseLost);
            }
            self.link.check_stall(self.in_flight.stalled_since().map(|since| since.elapsed()))?;
            self.show();
        }
    }

    /// Extends the deadline if the heartbeat has renewed the lease. A lease of another replica has no effect.
    fn renew(&mut self, seen: &Seen) {
        if let Some((lease, until)) = seen.lease(self.sink)
            && lease.epoch == self.lease.epoch
        {
            self.deadline = self.deadline.max(until);
        }
    }

    /// Stores the position up to which all entries are acknowledged. Returns false if the lease is lost.
    pub(super) async fn checkpoint(&mut self) -> Result<bool, Failure> {
        let position = self.in_flight.position();
        let parked = self.in_flight.parked_up_to_position();
        let expired = self.in_flight.expired_up_to_position();
        self.noted_at = Instant::now();
        if position == self.noted_position && parked.is_empty() && expired.is_empty() {
            return Ok(Instant::now() < self.deadline);
        }
        crash_point!("relay.before-checkpoint");
        // Before the position: an entry that was skipped without a record would count as acknowledged.
        if !expired.is_empty() && !self.relay.store.note_expired(self.sink, self.lease.epoch, &expired).await? {
            return Ok(false);
        }
        let asked_at = Instant::now();
        if !self.relay.store.checkpoint(self.sink, self.lease.epoch, position, &parked).await? {
            return Ok(false);
        }
        crash_point!("relay.after-checkpoint");
        self.noted_position = position;
        self.deadline = self.deadline.max(lease_deadline(asked_at));
        metrics::gauge!("belfry_outbox_position", "sink" => self.sink).set(position as f64);
        if !parked.is_empty() {
            metrics::gauge!("belfry_parked", "sink" => self.sink).increment(parked.len() as f64);
        }
        Ok(true)
    }

    fn show(&self) {
        let oldest = self.in_flight.oldest_ms().map_or(0.0, |oldest_ms| (now_ms() - oldest_ms).max(0) as f64 / 1000.0);
        metrics::gauge!("belfry_outbox_oldest_unsent_seconds", "sink" => self.sink).set(oldest);
    }
}

/// Returns whether an entry has expired.
pub(super) fn is_expired(entry: &RelayEntry) -> bool {
    entry.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms())
}
