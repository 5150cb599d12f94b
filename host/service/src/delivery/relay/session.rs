//! One session of the relay, under one lease and with one outlet.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use belfry_model::sabotaged;
use belfry_store::{Lease, LogPage, PARKED_BEHIND, ParkedScope, RelayEntry, StoreError, WITHHELD_EXPIRED, crash_point};
use tokio::sync::{mpsc, watch};

use super::held::Known;
use super::in_flight::InFlight;
use super::reader::read;
use super::suspects::Refusals;
use super::{End, Failure, Relay};
use crate::clock::now_ms;
use crate::delivery::breaker::Breaker;
use crate::delivery::outlet::{Ack, Outlet, OutletError, Refused};
use crate::heartbeat::{Seen, lease_deadline};
use crate::stopping::stopped;

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
    pub(super) sink: &'static str,
    pub(super) lease: Lease,
    deadline: Instant,
    /// Positions of entries that were refused together. Each is sent while no other entry is in flight.
    suspects: BTreeSet<i64>,
    refusals: Refusals,
    stopping: watch::Receiver<bool>,
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
        lease: Lease,
        deadline: Instant,
        suspects: BTreeSet<i64>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            relay,
            known,
            sink: relay.outlet.sink(),
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
    pub(super) async fn run(mut self, breaker: &mut Breaker) -> End {
        let (acks, mut acknowledged) = mpsc::unbounded_channel();
        let mut outlet = match self.relay.outlet.open(acks).await {
            Ok(outlet) => outlet,
            Err(error) => return End::Failed(Failure::Sink(error)),
        };
        let end = self.serve(&mut outlet, &mut acknowledged, breaker).await;
        outlet.close().await;
        // All refusals are known now, regardless of what ended the session and of the order of the acknowledgements.
        while let Ok(Ack { number, result }) = acknowledged.try_recv() {
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
        Err(Failure::Sink(OutletError::Misconfigured(format!(
            "{missing} entries after position {} are no longer in the log, and this sink has not read them; \
             `belfry audit` lists what is missing, and `belfry sink resume {}` continues after them",
            self.lease.position, self.sink
        ))))
    }

    async fn serve(
        &mut self,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
        breaker: &mut Breaker,
    ) -> Result<End, Failure> {
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
            if stop_at.is_none() && *stopping.borrow() {
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
                self.serve_parked(seen.beat.parked_requests, outlet, acknowledged).await?;
                // The log has its turn as well, regardless of the number of parked entries.
                if let Ok(page) = pages.try_recv() {
                    self.send(page?, outlet, acknowledged, breaker).await?;
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
                Some(ack) = acknowledged.recv() => self.acknowledge_all(ack, acknowledged, breaker)?,
                () = tokio::time::sleep_until((self.noted_at + CHECKPOINT_EVERY).into()), if dirty => {}
                page = pages.recv(), if self.in_flight.has_room() && !parked_are_due && !paused => {
                    let page = page.ok_or_else(|| StoreError::Failed("the reader of the log has stopped".into()))??;
                    self.send(page, outlet, acknowledged, breaker).await?;
                }
                _ = seen_changes.changed() => {}
                () = stopped(&stopping), if stop_at.is_none() => {}
                () = tokio::time::sleep(WATCH_EVERY) => {}
            }
            let due = self.noted_at.elapsed() >= CHECKPOINT_EVERY || self.in_flight.unnoted() >= MAX_UNNOTED;
            if self.in_flight.position() > self.noted_position && due && !self.checkpoint().await? {
                return Ok(End::LeaseLost);
            }
            self.watch_for_stall()?;
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

    async fn send(
        &mut self,
        page: LogPage,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
        breaker: &mut Breaker,
    ) -> Result<(), Failure> {
        for entry in &page.entries {
            if self.withheld(entry) {
                continue;
            }
            match outlet.refuses(entry).await {
                None => {}
                Some(Refused::Topic { topic, reason }) => {
                    self.known.held.is_missing(&topic, &reason);
                    self.relay.show_held(self.known);
                    self.in_flight.park(entry, reason, ParkedScope::Topic);
                    continue;
                }
                Some(Refused::Entry(reason) | Refused::Behind(reason)) => {
                    self.park(entry, reason);
                    continue;
                }
                Some(Refused::Sink(error)) => return Err(Failure::Sink(error)),
            }
            if self.suspects.contains(&entry.position) {
                self.wait_until(InFlight::is_settled, outlet, acknowledged, breaker).await?;
                self.send_alone(entry, outlet, acknowledged, breaker).await?;
                continue;
            }
            if outlet.may_pass_a_refusal() {
                self.wait_until(|in_flight| !in_flight.must_wait(entry), outlet, acknowledged, breaker).await?;
            }
            let number = self.in_flight.send(entry);
            outlet.send(number, entry).await.map_err(Failure::Sink)?;
        }
        outlet.flush().await.map_err(Failure::Sink)?;
        self.in_flight.read_up_to(page.up_to);
        Ok(())
    }

    /// Expires or parks an entry that must not be sent now: it has expired, an earlier entry of its key is parked, or its
    /// topic is held. Returns whether it did.
    fn withheld(&mut self, entry: &RelayEntry) -> bool {
        if is_expired(entry) {
            metrics::counter!("belfry_withheld_total", "reason" => WITHHELD_EXPIRED).increment(1);
            self.in_flight.expire(entry);
            return true;
        }
        let key = (entry.topic.clone(), entry.event_key.clone());
        if !entry.event_key.is_empty() && self.blocked.contains(&key) {
            self.in_flight.park(entry, PARKED_BEHIND, ParkedScope::Key);
            return true;
        }
        if let Some(reason) = self.known.held.reason(&entry.topic) {
            self.in_flight.park(entry, reason, ParkedScope::Topic);
            return true;
        }
        false
    }

    /// Parks an entry that is itself the cause of its refusal.
    fn park(&mut self, entry: &RelayEntry, reason: String) {
        tracing::error!(sink = self.sink, position = entry.position, topic = entry.topic, reason, "an entry is parked");
        self.in_flight.park(entry, reason, ParkedScope::Key);
        self.blocked.insert((entry.topic.clone(), entry.event_key.clone()));
    }

    /// Waits for acknowledgements until `enough` of them have arrived.
    async fn wait_until(
        &mut self,
        enough: impl Fn(&InFlight) -> bool,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
        breaker: &mut Breaker,
    ) -> Result<(), Failure> {
        if enough(&self.in_flight) {
            return Ok(());
        }
        outlet.flush().await.map_err(Failure::Sink)?;
        while !enough(&self.in_flight) {
            let ack = tokio::time::timeout(self.relay.stall, acknowledged.recv()).await;
            let Ok(Some(ack)) = ack else { return Err(self.stalled()) };
            self.acknowledge_all(ack, acknowledged, breaker)?;
        }
        Ok(())
    }

    /// Sends an entry, and waits for its acknowledgement. If it is refused now, it is itself the cause: it is parked, and
    /// its key is blocked.
    async fn send_alone(
        &mut self,
        entry: &RelayEntry,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
        breaker: &mut Breaker,
    ) -> Result<(), Failure> {
        match self.try_alone(entry, outlet, acknowledged).await? {
            Ok(()) => {
                self.in_flight.pass_over(entry);
                breaker.succeeded();
                Ok(())
            }
            Err(reason) => {
                self.park(entry, reason);
                // A producer that prevents gaps accepts nothing more after a refusal: a checkpoint stores the parked entry,
                // and a new producer sends the rest.
                self.checkpoint().await?;
                Err(Failure::Noted)
            }
        }
    }

    /// Sends an entry while no other is in flight. Returns the reason for a refusal that the entry itself causes.
    async fn try_alone(
        &mut self,
        entry: &RelayEntry,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
    ) -> Result<Result<(), String>, Failure> {
        // A separate number: the entry is added to those in flight only once it is settled.
        const ALONE: usize = usize::MAX;
        outlet.send(ALONE, entry).await.map_err(Failure::Sink)?;
        outlet.flush().await.map_err(Failure::Sink)?;
        loop {
            let ack = tokio::time::timeout(self.relay.stall, acknowledged.recv()).await;
            let Ok(Some(Ack { number, result })) = ack else { return Err(self.stalled()) };
            if number != ALONE {
                if result.is_ok() {
                    self.in_flight.acknowledge(number);
                }
                continue;
            }
            return match result {
                Ok(()) => Ok(Ok(())),
                Err(Refused::Entry(reason) | Refused::Behind(reason)) => Ok(Err(reason)),
                Err(Refused::Topic { topic, reason }) => Err(Failure::Topics(BTreeMap::from([(topic, reason)]))),
                Err(Refused::Sink(error)) => Err(Failure::Sink(error)),
            };
        }
    }

    fn acknowledge_all(
        &mut self,
        first: Ack,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
        breaker: &mut Breaker,
    ) -> Result<(), Failure> {
        let mut next = Some(first);
        let mut failed = None;
        while let Some(Ack { number, result }) = next {
            match result {
                Ok(()) => {
                    if let Some(created_at_ms) = self.in_flight.acknowledge(number) {
                        metrics::histogram!("belfry_accept_to_ack_seconds", "sink" => self.sink)
                            .record((now_ms() - created_at_ms).max(0) as f64 / 1000.0);
                    }
                }
                Err(refused) => {
                    if let Some(position) = self.in_flight.position_of(number) {
                        self.refusals.note(position, &refused);
                    }
                    failed.get_or_insert(refused);
                }
            }
            next = acknowledged.try_recv().ok();
        }
        match failed {
            None => {
                breaker.succeeded();
                Ok(())
            }
            Some(Refused::Topic { topic, reason }) => Err(Failure::Topics(BTreeMap::from([(topic, reason)]))),
            Some(Refused::Sink(error)) => Err(Failure::Sink(error)),
            Some(Refused::Entry(reason) | Refused::Behind(reason)) => {
                Err(Failure::Sink(OutletError::Unavailable(reason)))
            }
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

    fn stalled(&self) -> Failure {
        Failure::Sink(self.stall_error())
    }

    pub(super) fn stall_error(&self) -> OutletError {
        OutletError::Unavailable(format!("nothing acknowledged for {:?}", self.relay.stall))
    }

    fn watch_for_stall(&self) -> Result<(), Failure> {
        match self.in_flight.stalled_since() {
            Some(since) if since.elapsed() >= self.relay.stall => {
                Err(Failure::Sink(OutletError::Unavailable(format!("nothing acknowledged for {:?}", since.elapsed()))))
            }
            _ => Ok(()),
        }
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
