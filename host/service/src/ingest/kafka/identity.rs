//! What identifies the events of each topic.

use std::collections::BTreeMap;

use belfry_model::content_id;

use crate::config::{EventIdentity, Kafka};
use crate::incoming::Incoming;

/// The configuration of topics whose producers assign ids in their own way.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    topics: BTreeMap<String, EventIdentity>,
    window_ms: i64,
}

impl Identities {
    pub(super) fn new(kafka: &Kafka) -> Self {
        // The configuration allows at most thirty days.
        Self { topics: kafka.identity.clone(), window_ms: kafka.identity_window_seconds as i64 * 1000 }
    }

    /// Returns the configured identity of a topic's events.
    pub(super) fn of(&self, topic: &str) -> Option<EventIdentity> {
        self.topics.get(topic).copied()
    }

    /// Identifies an event by its content. `written_ms` is the time at which its record was written.
    ///
    /// Time is divided into windows, and the window is part of the id. A repetition may arrive in an adjacent window, so
    /// the ids of the windows before and after are aliases. So is the envelope's own id, under which Belfry records the
    /// events that it has published itself.
    pub(super) fn by_content(&self, event: Incoming, written_ms: Option<i64>) -> Incoming {
        let window = written_ms.unwrap_or(event.envelope.occurred_at_ms).div_euclid(self.window_ms);
        let id = |window| content_id(&event.content_hash, window);
        let aliases = vec![id(window - 1), id(window + 1), event.envelope.event_id];
        let event_id = id(window);
        Incoming { aliases, ..event.known_as(event_id) }
    }
}
