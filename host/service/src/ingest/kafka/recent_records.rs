use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Number of events that are remembered. They take five megabytes.
const EVENTS: usize = 50_000;

/// SHA-256 of a record's value.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(payload: &[u8]) -> Fingerprint {
    Sha256::digest(payload).into()
}

/// The last events that this replica committed, byte for byte. An identical record is a duplicate without being parsed. Any
/// other record under the same id is parsed, because a conflict must not be dropped silently.
#[derive(Default)]
pub(super) struct RecentRecords {
    committed: Mutex<Committed>,
}

#[derive(Default)]
struct Committed {
    fingerprints: HashMap<Uuid, Fingerprint>,
    order: VecDeque<Uuid>,
}

impl RecentRecords {
    fn lock(&self) -> MutexGuard<'_, Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this record was committed.
    pub(super) fn has(&self, event_id: Uuid, payload: &[u8]) -> bool {
        let known = self.lock().fingerprints.get(&event_id).copied();
        known.is_some_and(|known| known == fingerprint(payload))
    }

    /// Adds committed events.
    pub(super) fn add(&self, events: impl Iterator<Item = (Uuid, Fingerprint)>) {
        let mut committed = self.lock();
        for (event_id, fingerprint) in events {
            if committed.fingerprints.insert(event_id, fingerprint).is_none() {
                committed.order.push_back(event_id);
            }
            if committed.order.len() > EVENTS
                && let Some(oldest) = committed.order.pop_front()
            {
                committed.fingerprints.remove(&oldest);
            }
        }
    }

    /// Removes all events, because the contents of the database are no longer certain.
    pub(super) fn forget(&self) {
        *self.lock() = Committed::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_record_is_a_repetition() {
        let (repeats, id) = (RecentRecords::default(), Uuid::from_u128(1));
        repeats.add([(id, fingerprint(b"one"))].into_iter());
        assert!(repeats.has(id, b"one"));
        assert!(!repeats.has(id, b"two"), "it may be a conflict");
        assert!(!repeats.has(Uuid::from_u128(2), b"one"));
        repeats.forget();
        assert!(!repeats.has(id, b"one"));
    }

    #[test]
    fn memory_is_bounded() {
        let repeats = RecentRecords::default();
        repeats.add((0..EVENTS as u128 + 1).map(|number| (Uuid::from_u128(number), fingerprint(b""))));
        assert!(!repeats.has(Uuid::from_u128(0), b""), "the oldest is forgotten");
        assert!(repeats.has(Uuid::from_u128(1), b""));
    }
}
