//! The log's entries in compact form: one million take less than 100 MB.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use belfry_store::AuditEntry;
use uuid::Uuid;

use super::partitioner::key_hash;

/// An entry of the log, and where its record was found first.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) event_id: Uuid,
    pub(super) position: i64,
    /// A hash of topic and key; 0 without a key.
    pub(super) key: u64,
    /// A hash of a notification's source event, recipient and type; 0 for other entries, and until its record is found.
    pub(super) effect: u64,
    pub(super) offset: i64,
    pub(super) partition: i32,
    /// The hash of the key that determines the partition.
    pub(super) key_hash: u32,
    pub(super) topic: u16,
    /// The number of its records that were found.
    pub(super) copies: u16,
    pub(super) excuse: AbsenceReason,
}

/// Why an entry need not be on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbsenceReason {
    None,
    Parked,
    Discarded,
    Expired,
}

/// Entries in order of position, with an index by id and topic.
pub(super) struct Ledger {
    pub(super) entries: Vec<Logged>,
    topics: Vec<String>,
    /// Indexes into `entries`, in the order of id and topic.
    by_id: Vec<u32>,
    /// Hashes of keys with misplaced records.
    pub(super) bad_keys: HashSet<u64>,
}

impl Ledger {
    /// Reserves capacity for this number of entries. Unused capacity costs no memory.
    pub(super) fn new(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), topics: Vec::new(), by_id: Vec::new(), bad_keys: HashSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    pub(super) fn topic(&self, number: u16) -> &str {
        self.topics.get(usize::from(number)).map_or("", String::as_str)
    }

    pub(super) fn topic_number(&self, name: &str) -> Option<u16> {
        self.topics.iter().position(|topic| topic == name).and_then(|number| u16::try_from(number).ok())
    }

    /// Returns the topic's number, and assigns one to a topic that has none.
    pub(super) fn know_topic(&mut self, name: &str) -> u16 {
        self.topic_number(name).unwrap_or_else(|| {
            self.topics.push(name.to_owned());
            (self.topics.len() - 1) as u16
        })
    }

    pub(super) fn note_bad_key(&mut self, key: u64) {
        self.bad_keys.insert(key);
    }

    pub(super) fn add(&mut self, entry: &AuditEntry) {
        let topic = self.know_topic(&entry.topic);
        self.entries.push(Logged {
            event_id: entry.event_id,
            position: entry.position,
            key: key_of(&entry.topic, entry.event_key.as_bytes()),
            effect: 0,
            offset: -1,
            partition: -1,
            key_hash: key_hash(entry.event_key.as_bytes()),
            topic,
            copies: 0,
            excuse: match entry {
                AuditEntry { parked: true, .. } => AbsenceReason::Parked,
                AuditEntry { discarded: true, .. } => AbsenceReason::Discarded,
                AuditEntry { expired: true, .. } => AbsenceReason::Expired,
                _ => AbsenceReason::None,
            },
        });
    }

    /// Builds the index for `find` and `twins`.
    pub(super) fn sort(&mut self) {
        self.by_id = (0..self.entries.len() as u32).collect();
        let entries = &self.entries;
        self.by_id.sort_unstable_by_key(|number| {
            let entry = &entries[*number as usize];
            (entry.event_id, entry.topic, entry.position)
        });
    }

    /// Returns the first entry with this id and topic.
    pub(super) fn find(&mut self, event_id: Uuid, topic: u16) -> Option<&mut Logged> {
        let entries = &self.entries;
        let order = |number: &u32| {
            let entry = &entries[*number as usize];
            (entry.event_id, entry.topic)
        };
        let place = self.by_id.partition_point(|number| order(number) < (event_id, topic));
        let number = *self.by_id.get(place).filter(|number| order(number) == (event_id, topic))?;
        self.entries.get_mut(number as usize)
    }

    /// Returns pairs of entries with the same id and topic.
    pub(super) fn twins(&self) -> impl Iterator<Item = (&Logged, &Logged)> {
        let entry = |number: &u32| &self.entries[*number as usize];
        self.by_id.windows(2).filter_map(move |pair| {
            let (first, second) = (entry(&pair[0]), entry(&pair[1]));
            ((first.event_id, first.topic) == (second.event_id, second.topic)).then_some((first, second))
        })
    }
}

/// Returns a hash of topic and key; 0 without a key.
pub(super) fn key_of(topic: &str, key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    short(&(topic, key)).max(1)
}

/// Returns a hash that is the same in every run.
pub(super) fn short(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
