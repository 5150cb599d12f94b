//! Compares a ledger with topics.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::Verdict;
use super::ledger::{Ledger, digest};
use crate::servers::KafkaRecord;

/// The part of a record that the checker uses.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of its topic.
    pub topic: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its key.
    pub key: String,
    /// The message's id, which header and envelope must agree on; nil if they differ.
    pub event_id: Uuid,
    /// The event that a notification follows from.
    pub source: Option<Uuid>,
    /// The notification's recipient and type.
    pub recipient_and_type: String,
    /// A digest that identifies the payload.
    pub text: u64,
}

impl Seen {
    /// Converts a record; `None` if it is not one of the soak's.
    pub fn of(topic: usize, record: &KafkaRecord) -> Option<Self> {
        let payload = record.payload.as_deref()?;
        let value: Value = serde_json::from_slice(payload).ok()?;
        let event_id: Uuid = value["event_id"].as_str()?.parse().ok()?;
        let header: Uuid = record.header("event_id")?.parse().ok()?;
        let source = value["metadata"]["belfry"]["source_event_id"].as_str();
        let data = &value["data"];
        Some(Self {
            topic,
            partition: record.partition,
            offset: record.offset,
            key: String::from_utf8(record.key.clone().unwrap_or_default()).ok()?,
            // A record with two different ids belongs to no event.
            event_id: if header == event_id { event_id } else { Uuid::nil() },
            source: source.and_then(|source| source.parse().ok()),
            recipient_and_type: format!("{}/{}", data["teacher_id"], data["notification_type"]),
            text: digest(payload),
        })
    }
}

/// Everything seen so far, in the order of each partition.
#[derive(Default)]
pub struct Checker {
    /// The text of each message, by topic and id.
    messages: HashMap<(usize, Uuid), u64>,
    /// The notification of each event, recipient and type.
    by_cause: HashMap<(Uuid, String), Uuid>,
    published: HashSet<Uuid>,
    notified: HashSet<Uuid>,
    /// Each key's partition, by topic, and the highest number of its first appearances.
    keys: HashMap<(usize, String), (i32, u64)>,
    wrong: Verdict,
}

impl Checker {
    /// Checks the next record of a partition.
    pub fn see(&mut self, seen: &Seen, ledger: &Ledger) {
        if let Some(before) = self.messages.get(&(seen.topic, seen.event_id)) {
            if *before == seen.text {
                self.wrong.repeats += 1;
            } else {
                self.wrong.doubled += 1;
                self.wrong.example(|| format!("two messages under one id: {seen:?}"));
            }
            return;
        }
        self.messages.insert((seen.topic, seen.event_id), seen.text);
        let entries = ledger.entries();
        let Some(promise) = entries.get(&seen.source.unwrap_or(seen.event_id)) else {
            self.wrong.phantoms += 1;
            self.wrong.example(|| format!("never submitted: {seen:?}"));
            return;
        };
        let expected = if seen.source.is_some() { promise.notified } else { promise.published };
        let text_is_known = seen.source.is_some() || promise.texts.contains(&seen.text);
        if promise.forbidden || !expected || !text_is_known {
            self.wrong.phantoms += 1;
            self.wrong.example(|| format!("must not be seen: {seen:?}; {promise:?}"));
            return;
        }
        if let Some(source) = seen.source {
            self.notified.insert(source);
            if let Some(other) = self.by_cause.insert((source, seen.recipient_and_type.clone()), seen.event_id) {
                self.wrong.doubled += 1;
                self.wrong.example(|| format!("two notifications of one event, {other} and {seen:?}"));
            }
        } else {
            self.published.insert(seen.event_id);
        }
        let place = self.keys.entry((seen.topic, seen.key.clone())).or_insert((seen.partition, 0));
        if place.0 != seen.partition || promise.sequence <= place.1 {
            let before = *place;
            self.wrong.inversions += 1;
            self.wrong.example(|| format!("number {} first appears after {before:?}: {seen:?}", promise.sequence));
        }
        place.1 = place.1.max(promise.sequence);
    }

    /// Returns the acknowledged events that are missing on the topics, or whose notifications are.
    pub fn missing(&self, ledger: &Ledger) -> Vec<Uuid> {
        let entries = ledger.entries();
        let due = entries.iter().filter(|(_, promise)| promise.acknowledged && !promise.forbidden);
        let is_missing = |event_id: &Uuid, published, notified| {
            (published && !self.published.contains(event_id)) || (notified && !self.notified.contains(event_id))
        };
        due.filter(|(event_id, promise)| is_missing(event_id, promise.published, promise.notified))
            .map(|(event_id, _)| *event_id)
            .collect()
    }

    /// Returns the verdict on everything seen so far.
    pub fn verdict(&self, ledger: &Ledger) -> Verdict {
        let missing = self.missing(ledger);
        let mut verdict = self.wrong.clone();
        let entries = ledger.entries();
        verdict.acknowledged = entries.values().filter(|promise| promise.acknowledged).count() as u64;
        verdict.lost = missing.len() as u64;
        for event_id in missing {
            verdict.example(|| format!("lost: {event_id}, {:?}", entries.get(&event_id)));
        }
        verdict
    }
}
