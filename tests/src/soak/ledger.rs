use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// What a client submitted under an id, and what it may expect.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The key of the event; its notification goes to a teacher of the same number.
    pub lane: usize,
    /// Its place among the events of its key.
    pub sequence: u64,
    /// The texts that may be published under the id. A repetition may have another time.
    pub texts: Vec<u64>,
    /// Whether the event itself is published, and not only its notification.
    pub published: bool,
    /// Whether a notification follows.
    pub notified: bool,
    /// Whether somebody was told that it is durable, or it was written to a topic that is read.
    pub acknowledged: bool,
    /// Whether it must not be seen: it was refused or rolled back.
    pub forbidden: bool,
}

/// What all clients submitted, by event id.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<Uuid, Promise>>);

impl Ledger {
    /// Note what is about to be submitted.
    pub fn submit(&self, event_id: Uuid, promise: Promise) {
        self.entries().insert(event_id, promise);
    }

    /// Another text may be published under the id.
    pub fn allow(&self, event_id: Uuid, text: &[u8]) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.texts.push(digest(text));
        }
    }

    /// It is durable.
    pub fn acknowledge(&self, event_id: Uuid) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.acknowledged = true;
        }
    }

    /// It was refused for good.
    pub fn refuse(&self, event_id: Uuid) {
        if let Some(promise) = self.entries().get_mut(&event_id) {
            promise.forbidden = true;
        }
    }

    /// Everything in it.
    pub fn entries(&self) -> MutexGuard<'_, HashMap<Uuid, Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells texts apart.
pub(super) fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
