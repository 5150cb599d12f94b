//! What identifies the events of each topic.

use std::collections::BTreeMap;

use belfry_model::content_id;

use crate::config::{EventIdentity, Kafka};
use crate::ingest::Incoming;

/// What the operator says of topics whose producers give ids in a way of their own.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    topics: BTreeMap<String, EventIdentity>,
    window_ms: i64,
}

impl Identities {
    pub(super) fn new(kafka: &Kafka) -> Self {
        // The configuration allows thirty days at most.
        Self { topics: kafka.identity.clone(), window_ms: kafka.identity_window_seconds as i64 * 1000 }
    }

    /// What the operator chose for a topic.
    pub(super) fn of(&self, topic: &str) -> Option<EventIdentity> {
        self.topics.get(topic).copied()
    }

    /// An event that is known by its content, as of a record that was written at this time.
    ///
    /// Time is divided into windows, and the window is a part of the id. A repetition may come on the other side of a window's
    /// end, so the ids of the windows beside it are aliases. So is the envelope's own id, under which Belfry knows what it has
    /// published itself.
    pub(super) fn by_content(&self, event: Incoming, written_ms: Option<i64>) -> Incoming {
        let window = written_ms.unwrap_or(event.envelope.occurred_at_ms).div_euclid(self.window_ms);
        let id = |window| content_id(&event.content_hash, window);
        let aliases = vec![id(window - 1), id(window + 1), event.envelope.event_id];
        let event_id = id(window);
        Incoming { aliases, ..event.known_as(event_id) }
    }
}
