use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// An event that a client submitted, and its expected effects.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The number of its lane, which its key and its notification's teacher contain.
    pub lane: usize,
    /// Its place among the events of its key.
    pub sequence: u64,
    /// Digests of the texts that may be published under the id. A repetition may have another time.
    pub texts: Vec<u64>,
    /// Whether the event itself is published, in addition to its notification.
    pub published: bool,
    /// Whether a notification follows.
    pub notified: bool,
    /// Whether a client got an acknowledgement, or the event was written to a topic that the replicas read.
    pub acknowledged: bool,
    /// Whether it must not appear on a topic: it was rejected or rolled back.
    pub forbidden: bool,
}

/// All submitted events, by event id.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<Uuid, Promise>>);

impl Ledger {
    /// Notes an event that is about to be submitted.
    pub fn submit(&self, event_id: Uuid, promise: Promise) {
        self.entries().insert(event_id, promise);
    }

    /// Allows another text to be published under the id.
    pub fn allow(&self, event_id: Uuid, text: &[u8]) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.texts.push(digest(text));
        }
    }

    /// Notes that the event was acknowledged.
    pub fn acknowledge(&self, event_id: Uuid) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.acknowledged = true;
        }
    }

    /// Notes that the event was finally rejected.
    pub fn refuse(&self, event_id: Uuid) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.forbidden = true;
        }
    }

    /// Returns all entries.
    pub fn entries(&self) -> MutexGuard<'_, HashMap<Uuid, Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a digest that identifies a text.
pub(super) fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
