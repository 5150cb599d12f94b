//! Sends parked entries: those that operators request, and those whose topic works again. Only the holder of the lease does
//! this, between two reads, so that an entry never overtakes an earlier one with the same key.
//!
//! Entries are sent in **waves**: no two entries of a wave have the same key, and all of them are acknowledged before the
//! next wave. So a later entry never overtakes a refused one with the same key.

use std::collections::HashSet;
use std::time::Instant;

use belfry_model::sabotaged;
use belfry_store::{ParkedEntry, ParkedLine, RelayEntry, StoreError, WITHHELD_EXPIRED, now_ms};

use super::Failure;
use super::session::{Session, is_expired};
use crate::delivery::sink::{Ack, Refused};

/// Maximum number of parked entries of one key or one topic that are read at once. Their size in bytes is bounded, too.
const PAGE: u32 = 1000;
/// Maximum number of parked entries that are discarded at once.
const DISCARDED: u32 = 1000;
/// Maximum number of keys that are read at once.
const KEYS: u32 = 100;
/// Maximum number of pages for operators' requests before the log has its turn.
const PAGES_A_TURN: usize = 8;
/// The number of a wave's first entry. The numbers of the log's entries never get that high.
const FIRST: usize = usize::MAX / 2;

impl Session<'_> {
    /// Returns whether parked entries require work. `requests` is the number of the last request about them.
    pub(super) fn parked_are_due(&self, requests: i64) -> bool {
        requests != self.known.requests || self.more_to_unpark || self.known.held.due(Instant::now()).is_some()
    }

    /// Reads the blocked keys, the held topics and the number of parked entries.
    pub(super) async fn look_at_parked(&mut self) -> Result<(), StoreError> {
        let store = &self.relay.store;
        self.blocked = store.blocked_keys(self.sink).await?.into_iter().collect();
        self.known.held.adopt(store.held_topics(self.sink).await?);
        self.relay.show_held(self.known);
        let parked = store.count_parked(self.sink).await?;
        metrics::gauge!("belfry_parked", "sink" => self.sink).set(parked as f64);
        Ok(())
    }

    /// Carries out part of the work on parked entries, so that the log has its turn in between.
    pub(super) async fn serve_parked(&mut self, requests: i64) -> Result<(), Failure> {
        if requests != self.known.requests {
            self.known.requests = requests;
            self.more_to_unpark = true;
            self.known.held.try_now();
        }
        if self.more_to_unpark {
            self.discard().await?;
            self.more_to_unpark = self.unpark_keys().await?;
            // New entries must not wait behind entries that are gone.
            self.look_at_parked().await?;
        }
        if let Some(topic) = self.known.held.due(Instant::now()) {
            self.try_topic(&topic).await?;
        }
        if !self.parked_are_due(requests) {
            self.known.careful_up_to = 0;
        }
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        let store = &self.relay.store;
        loop {
            let positions = store.to_discard(self.sink, DISCARDED).await?;
            if positions.is_empty() {
                return Ok(());
            }
            if !store.discard_parked(self.sink, self.lease.epoch, &positions, now_ms()).await? {
                return Err(lease_is_gone());
            }
            tracing::info!(sink = self.sink, ?positions, "parked entries discarded");
        }
    }

    /// Sends the entries that operators requested, key by key. Returns whether there may be more.
    async fn unpark_keys(&mut self) -> Result<bool, Failure> {
        let keys = self.relay.store.keys_to_unpark(self.sink, KEYS).await?;
        if keys.is_empty() {
            return Ok(false);
        }
        self.link.sink.look_again().await?;
        let mut pages = 0;
        for (topic, event_key) in keys {
            if let Some(reason) = self.known.held.reason(&topic).map(str::to_owned) {
                self.relay.store.wait_for_topic(self.sink, &topic, &event_key, &reason).await?;
                self.blocked.remove(&(topic, event_key));
                continue;
            }
            loop {
                let line = ParkedLine::Key(&topic, &event_key);
                let entries = self.relay.store.read_parked(self.sink, line, PAGE).await?;
                if entries.is_empty() {
                    self.blocked.remove(&(topic, event_key));
                    break;
                }
                if pages == PAGES_A_TURN {
                    return Ok(true);
                }
                pages += 1;
                if !self.send_parked(&entries).await? {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Checks whether the sink accepts a held topic's entries again, and sends some of them if so.
    async fn try_topic(&mut self, topic: &str) -> Result<(), Failure> {
        let store = &self.relay.store;
        if let Some(reason) = self.link.sink.lacks(topic).await {
            // If an operator has discarded all waiting entries, the topic is no longer held.
            if store.lift_hold(self.sink, self.lease.epoch, topic).await? {
                self.known.held.lift(topic);
                return Ok(self.look_at_parked().await?);
            }
            self.known.held.is_missing(topic, &reason);
            return Ok(store.keep_held(self.sink, topic, &reason).await?);
        }
        // One entry is enough to determine that.
        let limit = if self.known.held.takes(topic) { PAGE } else { 1 };
        let entries = store.read_parked(self.sink, ParkedLine::Topic(topic), limit).await?;
        if entries.is_empty() {
            if !store.lift_hold(self.sink, self.lease.epoch, topic).await? {
                return Err(lease_is_gone());
            }
            self.known.held.lift(topic);
            return Ok(self.look_at_parked().await?);
        }
        self.send_parked(&entries).await?;
        self.known.held.took(topic);
        Ok(())
    }

    /// Sends parked entries in order. Returns whether all are settled. Those that are not remain parked, and block their
    /// keys.
    async fn send_parked(&mut self, entries: &[ParkedEntry]) -> Result<bool, Failure> {
        let mut refused: HashSet<(&str, &str)> = HashSet::new();
        let mut expired = Vec::new();
        let mut wave = Wave::default();
        for parked in entries {
            let key = (parked.topic.as_str(), parked.event_key.as_str());
            if !parked.event_key.is_empty() && refused.contains(&key) {
                continue;
            }
            let Some(entry) = &parked.entry else {
                self.keep(parked.position, key, LOST).await?;
                refused.insert(key);
                continue;
            };
            if is_expired(entry) && !sabotaged("unpark-expired") {
                expired.push(entry.position);
                continue;
            }
            match self.link.sink.refuses(entry).await {
                None => {}
                Some(Refused::Entry(reason) | Refused::Behind(reason)) => {
                    self.send_wave(std::mem::take(&mut wave)).await?;
                    self.keep(parked.position, key, &reason).await?;
                    refused.insert(key);
                    continue;
                }
                Some(Refused::Topic { topic, reason }) => return Err(Failure::topic(topic, reason)),
                Some(Refused::Sink(error)) => return Err(Failure::Sink(error)),
            }
            let alone = entry.position <= self.known.careful_up_to;
            if alone || wave.has(entry) {
                self.send_wave(std::mem::take(&mut wave)).await?;
            }
            wave.add(entry);
            if alone {
                self.send_wave(std::mem::take(&mut wave)).await?;
            }
        }
        self.send_wave(wave).await?;
        self.withhold(&expired).await?;
        Ok(refused.is_empty())
    }

    /// Sends entries of different keys, and removes those that the sink acknowledges from the parked entries.
    async fn send_wave(&mut self, wave: Wave<'_>) -> Result<(), Failure> {
        let entries = wave.entries;
        if entries.is_empty() {
            return Ok(());
        }
        for (place, entry) in entries.iter().enumerate() {
            self.link.sink.send(FIRST + place, entry).await?;
        }
        self.link.sink.flush().await?;
        let (mut sent, mut failed) = (Vec::with_capacity(entries.len()), None);
        let mut answers = 0;
        while answers < entries.len() {
            let Ack { number, result } = match self.link.next_ack().await {
                Ok(ack) => ack,
                Err(error) => {
                    failed = Some(Refused::Sink(error));
                    break;
                }
            };
            let Some(entry) = number.checked_sub(FIRST).and_then(|place| entries.get(place)) else { continue };
            answers += 1;
            match (result, &failed) {
                (Ok(()), _) => sent.push(entry.position),
                // A refusal because of another entry is less specific than the refusal of that entry.
                (Err(refused), None | Some(Refused::Behind(_))) => failed = Some(refused),
                (Err(_), Some(_)) => {}
            }
        }
        self.forget(&sent).await?;
        match failed {
            None => Ok(()),
            Some(Refused::Topic { topic, reason }) => Err(Failure::topic(topic, reason)),
            Some(Refused::Sink(error)) => Err(Failure::Sink(error)),
            Some(Refused::Entry(reason) | Refused::Behind(reason)) => {
                if let [entry] = entries[..] {
                    self.keep(entry.position, (entry.topic.as_str(), entry.event_key.as_str()), &reason).await?;
                } else {
                    let last = entries.last().map_or(0, |entry| entry.position);
                    self.known.careful_up_to = self.known.careful_up_to.max(last);
                }
                // A producer that prevents gaps accepts nothing more after a refusal.
                Err(Failure::Noted)
            }
        }
    }

    /// Notes that an entry was refused again and remains parked.
    async fn keep(&mut self, position: i64, (topic, event_key): (&str, &str), reason: &str) -> Result<(), Failure> {
        tracing::error!(sink = self.sink, position, topic, reason, "an entry remains parked");
        self.blocked.insert((topic.to_owned(), event_key.to_owned()));
        Ok(self.relay.store.keep_parked(self.sink, position, reason).await?)
    }

    async fn forget(&mut self, sent: &[i64]) -> Result<(), Failure> {
        if sent.is_empty() {
            return Ok(());
        }
        if !self.relay.store.forget_parked(self.sink, self.lease.epoch, sent).await? {
            return Err(lease_is_gone());
        }
        metrics::gauge!("belfry_parked", "sink" => self.sink).decrement(sent.len() as f64);
        tracing::info!(sink = self.sink, positions = ?sent, "parked entries sent");
        Ok(())
    }

    async fn withhold(&mut self, expired: &[i64]) -> Result<(), Failure> {
        if expired.is_empty() {
            return Ok(());
        }
        if !self.relay.store.note_expired(self.sink, self.lease.epoch, expired).await? {
            return Err(lease_is_gone());
        }
        metrics::counter!("belfry_withheld_total", "reason" => WITHHELD_EXPIRED).increment(expired.len() as u64);
        metrics::gauge!("belfry_parked", "sink" => self.sink).decrement(expired.len() as f64);
        tracing::info!(sink = self.sink, positions = ?expired, "parked entries have expired and are not sent");
        Ok(())
    }
}

/// Why an entry remains parked if only its position is left.
const LOST: &str = "its content was removed from the log before Belfry kept the content of parked entries; discard it";

/// Entries that are sent together.
#[derive(Default)]
struct Wave<'a> {
    entries: Vec<&'a RelayEntry>,
    keys: HashSet<(&'a str, &'a str)>,
}

impl<'a> Wave<'a> {
    /// Returns whether the wave has an entry that this one must not overtake.
    fn has(&self, entry: &RelayEntry) -> bool {
        !entry.event_key.is_empty() && self.keys.contains(&(entry.topic.as_str(), entry.event_key.as_str()))
    }

    fn add(&mut self, entry: &'a RelayEntry) {
        self.entries.push(entry);
        self.keys.insert((entry.topic.as_str(), entry.event_key.as_str()));
    }
}

fn lease_is_gone() -> Failure {
    Failure::Store(StoreError::Failed("the lease is lost, or parked entries were changed in the meantime".into()))
}
