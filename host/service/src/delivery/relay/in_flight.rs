//! Entries that were sent, and how far all of them are acknowledged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use belfry_model::sabotaged;
use belfry_store::{NewParked, ParkedScope, RelayEntry};

/// What is under way is bounded both ways.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 32 << 20;
/// Keys that are remembered as opened; when there are more, all are forgotten, and opened once more.
const MAX_OPENED: usize = 200_000;
/// So long a broker surely remembers a producer (`producer.id.expiration.ms`, a day by default).
const OPENED_FOR: Duration = Duration::from_secs(3600);

/// The entries between the last checkpoint and the last that was sent, in the order of the log.
pub(super) struct InFlight {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: usize,
    bytes: usize,
    unacknowledged: usize,
    /// Up to here everything is acknowledged, parked or not to be sent.
    position: i64,
    /// Up to here the log was read; behind the last slot there is nothing to send.
    read_up_to: i64,
    parked: Vec<NewParked>,
    /// Positions of entries whose time has passed.
    expired: Vec<i64>,
    /// When something was last acknowledged, or first sent.
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

/// Which keys have something under way, and of which something was acknowledged in this session.
///
/// A broker that does not know a producer's numbers on a partition takes whatever comes first, even what stands behind a
/// batch that it has just refused. So of each key one entry is acknowledged before a second is sent.
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

    /// Whether something of the entry's key has to be acknowledged before it may be sent.
    pub(super) fn must_wait(&self, entry: &RelayEntry) -> bool {
        self.keys.of(entry).is_some_and(|key| self.keys.must_wait(key))
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MAX_ENTRIES && self.bytes < MAX_BYTES
    }

    /// Nothing that was sent waits for its acknowledgement.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged == 0
    }

    /// How far all is acknowledged.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// The position of what was sent under this number, unless it is settled.
    pub(super) fn position_of(&self, number: usize) -> Option<i64> {
        self.slots.get(number.checked_sub(self.first)?).map(|slot| slot.position)
    }

    /// When the oldest entry that is not acknowledged was recorded.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.slots.iter().find(|slot| !slot.done).map(|slot| slot.created_at_ms)
    }

    /// How long nothing was acknowledged although something is under way.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (self.unacknowledged > 0).then_some(self.progress_at)
    }

    /// An entry is about to be sent. Returns the number for its acknowledgement.
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

    /// An entry is not sent, for a reason that was told elsewhere.
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

    /// An entry is not sent, for its time has passed.
    pub(super) fn expire(&mut self, entry: &RelayEntry) {
        self.expired.push(entry.position);
        self.pass_over(entry);
    }

    /// An entry is not sent now: it was refused, or something of its key or its topic was.
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

    /// Nothing stands in the log up to here but what was sent or passed over.
    pub(super) fn read_up_to(&mut self, position: i64) {
        self.read_up_to = position;
        self.advance();
    }

    /// An entry is acknowledged. Returns when it was recorded.
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

    /// How many entries wait to be noted that were not sent.
    pub(super) fn unnoted(&self) -> usize {
        self.parked.len() + self.expired.len()
    }

    /// What had expired up to the position; the rest waits for the next checkpoint.
    pub(super) fn expired_up_to_position(&mut self) -> Vec<i64> {
        let (now, later) = self.expired.drain(..).partition(|position| *position <= self.position);
        self.expired = later;
        now
    }

    /// What was parked up to the position; the rest waits for the next checkpoint.
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
        assert_eq!(in_flight.position(), 9, "all that was read is");
    }
}
