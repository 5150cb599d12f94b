//! Entries in flight, and the position up to which all entries are acknowledged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use belfry_model::sabotaged;
use belfry_store::{NewParked, ParkedScope, RelayEntry};

/// The bounds of the entries in flight.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 32 << 20;
/// Maximum number of keys that are remembered as opened. Beyond it, all are forgotten and have to be opened again.
const MAX_OPENED: usize = 200_000;
/// How long a broker certainly remembers a producer (`producer.id.expiration.ms`, a day by default).
const OPENED_FOR: Duration = Duration::from_secs(3600);

/// The entries from the first that is not acknowledged to the last that was sent, in the order of the log.
pub(super) struct InFlight {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: usize,
    bytes: usize,
    unacknowledged: usize,
    /// The position up to which every entry is acknowledged, parked or not to be sent.
    position: i64,
    /// The position up to which the log was read. There is nothing to send between the last slot and this position.
    read_up_to: i64,
    parked: Vec<NewParked>,
    /// Positions of expired entries.
    expired: Vec<i64>,
    /// When an entry was last acknowledged, or sent while none was in flight.
    progress_at: Instant,
    keys: Keys,
}

struct Slot {
    position: i64,
    created_at_ms: i64,
    bytes: usize,
    /// Topic and key, as a hash.
    key: Option<u64>,
    done: bool,
}

/// The keys with entries in flight, and the keys with an entry that was acknowledged in this session.
///
/// A broker that does not know a producer's sequence numbers on a partition accepts whichever batch arrives first, even one
/// behind a batch that it has just refused. So for each key, one entry is acknowledged before a second is sent.
struct Keys {
    hasher: RandomState,
    under_way: HashMap<u64, usize>,
    opened: HashSet<u64>,
    opened_since: Instant,
}

impl Keys {
    fn of(&self, entry: &RelayEntry) -> Option<u64> {
        (!entry.event_key.is_empty()).then(|| self.hasher.hash_one((&entry.topic, &entry.event_key)))
    }

    fn must_wait(&self, key: u64) -> bool {
        !self.opened.contains(&key) && self.under_way.contains_key(&key)
    }

    fn send(&mut self, key: u64) {
        *self.under_way.entry(key).or_default() += 1;
    }

    fn acknowledge(&mut self, key: u64) {
        if let Some(count) = self.under_way.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&key);
            }
        }
        if self.opened.len() >= MAX_OPENED || self.opened_since.elapsed() > OPENED_FOR {
            self.opened.clear();
            self.opened_since = Instant::now();
        }
        self.opened.insert(key);
    }
}

impl InFlight {
    pub(super) fn new(position: i64) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            unacknowledged: 0,
            position,
            read_up_to: position,
            parked: Vec::new(),
            expired: Vec::new(),
            progress_at: Instant::now(),
            keys: Keys {
                hasher: RandomState::new(),
                under_way: HashMap::new(),
                opened: HashSet::new(),
                opened_since: Instant::now(),
            },
        }
    }

    /// Returns whether another entry of the same key has to be acknowledged before this one may be sent.
    pub(super) fn must_wait(&self, entry: &RelayEntry) -> bool {
        self.keys.of(entry).is_some_and(|key| self.keys.must_wait(key))
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MAX_ENTRIES && self.bytes < MAX_BYTES
    }

    /// Returns whether every entry that was sent is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged == 0
    }

    /// Returns the position up to which every entry is acknowledged, parked or not to be sent.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// Returns the position of the entry sent under this number, unless every entry up to it is acknowledged.
    pub(super) fn position_of(&self, number: usize) -> Option<i64> {
        self.slots.get(number.checked_sub(self.first)?).map(|slot| slot.position)
    }

    /// Returns when the oldest unacknowledged entry was recorded, in milliseconds since the epoch.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.slots.iter().find(|slot| !slot.done).map(|slot| slot.created_at_ms)
    }

    /// Returns since when no entry has been acknowledged. `None` if no entry is in flight.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (self.unacknowledged > 0).then_some(self.progress_at)
    }

    /// Adds an entry that is about to be sent. Returns the number for its acknowledgement.
    pub(super) fn send(&mut self, entry: &RelayEntry) -> usize {
        if self.unacknowledged == 0 {
            self.progress_at = Instant::now();
        }
        let bytes = entry.bytes();
        self.bytes += bytes;
        self.unacknowledged += 1;
        let key = self.keys.of(entry);
        if let Some(key) = key {
            self.keys.send(key);
        }
        let (position, created_at_ms) = (entry.position, entry.created_at_ms);
        self.slots.push_back(Slot { position, created_at_ms, bytes, key, done: false });
        self.first + self.slots.len() - 1
    }

    /// Adds an entry that is not sent, for a reason that is recorded elsewhere.
    pub(super) fn pass_over(&mut self, entry: &RelayEntry) {
        self.slots.push_back(Slot {
            position: entry.position,
            created_at_ms: entry.created_at_ms,
            bytes: 0,
            key: None,
            done: true,
        });
        self.advance();
    }

    /// Adds an entry that is not sent, because it has expired.
    pub(super) fn expire(&mut self, entry: &RelayEntry) {
        self.expired.push(entry.position);
        self.pass_over(entry);
    }

    /// Adds an entry that is not sent now: it was refused, or another entry of its key or its topic was.
    pub(super) fn park(&mut self, entry: &RelayEntry, error: impl Into<String>, scope: ParkedScope) {
        self.parked.push(NewParked {
            position: entry.position,
            topic: entry.topic.clone(),
            event_key: entry.event_key.clone(),
            error: error.into(),
            scope,
        });
        self.pass_over(entry);
    }

    /// Notes that every entry up to this position was added.
    pub(super) fn read_up_to(&mut self, position: i64) {
        self.read_up_to = position;
        self.advance();
    }

    /// Notes an acknowledgement. Returns when the entry was recorded, in milliseconds since the epoch.
    pub(super) fn acknowledge(&mut self, number: usize) -> Option<i64> {
        let slot = self.slots.get_mut(number.checked_sub(self.first)?)?;
        let created_at_ms = slot.created_at_ms;
        slot.done = true;
        if let Some(key) = slot.key.take() {
            self.keys.acknowledge(key);
        }
        self.unacknowledged -= 1;
        self.progress_at = Instant::now();
        if sabotaged("contiguous-prefix") {
            self.position = self.position.max(slot.position);
        }
        self.advance();
        Some(created_at_ms)
    }

    fn advance(&mut self) {
        while let Some(slot) = self.slots.front().filter(|slot| slot.done) {
            self.position = self.position.max(slot.position);
            self.bytes -= slot.bytes;
            self.first += 1;
            self.slots.pop_front();
        }
        if self.slots.is_empty() {
            self.position = self.position.max(self.read_up_to);
        }
    }

    /// Returns the number of parked and expired entries that wait for a checkpoint.
    pub(super) fn unnoted(&self) -> usize {
        self.parked.len() + self.expired.len()
    }

    /// Takes the expired entries up to the position. The others wait for the next checkpoint.
    pub(super) fn expired_up_to_position(&mut self) -> Vec<i64> {
        let (now, later) = self.expired.drain(..).partition(|position| *position <= self.position);
        self.expired = later;
        now
    }

    /// Takes the parked entries up to the position. The others wait for the next checkpoint.
    pub(super) fn parked_up_to_position(&mut self) -> Vec<NewParked> {
        let (now, later) = self.parked.drain(..).partition(|parked| parked.position <= self.position);
        self.parked = later;
        now
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry(position: i64) -> RelayEntry {
        RelayEntry {
            position,
            event_id: Uuid::nil(),
            topic: "t".into(),
            event_key: position.to_string(),
            payload: Vec::new(),
            headers: Vec::new(),
            is_notification: false,
            expires_at_ms: None,
            created_at_ms: 0,
        }
    }

    #[test]
    fn a_position_is_noted_only_up_to_the_first_entry_that_is_not_acknowledged() {
        let mut in_flight = InFlight::new(0);
        let numbers: Vec<usize> = (1..=4).map(|position| in_flight.send(&entry(position))).collect();
        in_flight.read_up_to(9);
        for number in [numbers[0], numbers[2], numbers[3]] {
            in_flight.acknowledge(number);
        }
        assert_eq!(in_flight.position(), 1, "the second is not acknowledged");
        in_flight.acknowledge(numbers[1]);
        assert_eq!(in_flight.position(), 9, "every entry that was read is acknowledged");
    }
}
