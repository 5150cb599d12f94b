//! Sends pages of the log through the session's sink, and processes the acknowledgements.

use belfry_store::{LogPage, PARKED_BEHIND, ParkedScope, RelayEntry, WITHHELD_EXPIRED, now_ms};

use super::Failure;
use super::in_flight::InFlight;
use super::session::{Session, is_expired};
use crate::delivery::sink::{Ack, Refused, SinkError};

/// The result of sending an entry while no other is in flight.
enum Attempt {
    Acknowledged,
    /// The entry itself is the cause of the refusal. Holds the reason.
    Refused(String),
}

impl Session<'_> {
    /// Sends a page of the log. Entries that must not be sent now are parked or expired.
    pub(super) async fn send(&mut self, page: LogPage) -> Result<(), Failure> {
        for entry in &page.entries {
            if self.withheld(entry) {
                continue;
            }
            match self.link.sink.refuses(entry).await {
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
                self.wait_until(InFlight::is_settled).await?;
                self.send_alone(entry).await?;
                continue;
            }
            if self.link.sink.may_pass_a_refusal() {
                self.wait_until(|in_flight| !in_flight.must_wait(entry)).await?;
            }
            let number = self.in_flight.send(entry);
            self.link.sink.send(number, entry).await?;
        }
        self.link.sink.flush().await?;
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
    async fn wait_until(&mut self, enough: impl Fn(&InFlight) -> bool) -> Result<(), Failure> {
        if enough(&self.in_flight) {
            return Ok(());
        }
        self.link.sink.flush().await?;
        while !enough(&self.in_flight) {
            let ack = self.link.next_ack().await?;
            self.acknowledge_all(ack)?;
        }
        Ok(())
    }

    /// Sends an entry, and waits for its acknowledgement. If it is refused now, it is itself the cause: it is parked, and
    /// its key is blocked.
    async fn send_alone(&mut self, entry: &RelayEntry) -> Result<(), Failure> {
        match self.try_alone(entry).await? {
            Attempt::Acknowledged => {
                self.in_flight.pass_over(entry);
                self.link.health.succeeded();
                Ok(())
            }
            Attempt::Refused(reason) => {
                self.park(entry, reason);
                // A producer that prevents gaps accepts nothing more after a refusal: a checkpoint stores the parked entry,
                // and a new producer sends the rest.
                self.checkpoint().await?;
                Err(Failure::Noted)
            }
        }
    }

    /// Sends an entry while no other is in flight.
    async fn try_alone(&mut self, entry: &RelayEntry) -> Result<Attempt, Failure> {
        // A separate number: the entry is added to those in flight only once it is settled.
        const ALONE: usize = usize::MAX;
        self.link.sink.send(ALONE, entry).await?;
        self.link.sink.flush().await?;
        loop {
            let Ack { number, result } = self.link.next_ack().await?;
            if number != ALONE {
                if result.is_ok() {
                    self.in_flight.acknowledge(number);
                }
                continue;
            }
            return match result {
                Ok(()) => Ok(Attempt::Acknowledged),
                Err(Refused::Entry(reason) | Refused::Behind(reason)) => Ok(Attempt::Refused(reason)),
                Err(Refused::Topic { topic, reason }) => Err(Failure::topic(topic, reason)),
                Err(Refused::Sink(error)) => Err(Failure::Sink(error)),
            };
        }
    }

    pub(super) fn acknowledge_all(&mut self, first: Ack) -> Result<(), Failure> {
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
            next = self.link.acks.try_recv().ok();
        }
        match failed {
            None => {
                self.link.health.succeeded();
                Ok(())
            }
            Some(Refused::Topic { topic, reason }) => Err(Failure::topic(topic, reason)),
            Some(Refused::Sink(error)) => Err(Failure::Sink(error)),
            Some(Refused::Entry(reason) | Refused::Behind(reason)) => {
                Err(Failure::Sink(SinkError::Unavailable(reason)))
            }
        }
    }
}
