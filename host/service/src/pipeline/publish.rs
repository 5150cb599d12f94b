//! Decides which events are published, in addition to being recorded and offered to rules.

use std::sync::Arc;

use belfry_model::{is_topic_name, sabotaged};

use crate::config::{DeliveryMode, SourceTopics};
use crate::incoming::{Arrival, Incoming};
use crate::kafka::{TopicLimits, Unsendable};
use crate::releases::Serving;

use super::rows;

/// The operator's settings for publishing. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publishing {
    /// Whether recorded entries are to be sent.
    pub(crate) mode: DeliveryMode,
    /// The topics that events are published to.
    pub(crate) chosen: Arc<SourceTopics>,
    /// The topic of notifications, which only rules write to.
    pub(crate) notifications: String,
    /// The limits of Kafka's topics, if entries are published there.
    pub(crate) topics: Option<TopicLimits>,
}

impl Publishing {
    /// Returns whether an event is published. One that was read from its own topic is there already.
    pub(super) fn publishes(&self, event: &Incoming, serving: &Serving) -> bool {
        let event_type = event.envelope.event_type.as_str();
        match (self.mode, &event.arrival, &*self.chosen) {
            (DeliveryMode::Observe, ..) | (_, Arrival::Consumed(_), _) => false,
            (DeliveryMode::Send, _, SourceTopics::These(topics)) => {
                topics.iter().any(|named| covers(named, event.topic()))
            }
            // A service that submits an event relies on Belfry alone to publish it.
            (DeliveryMode::Send, Arrival::Submitted { .. }, SourceTopics::Subscribed(_)) => true,
            (DeliveryMode::Send, Arrival::Posted, SourceTopics::Subscribed(_)) => {
                serving.event_types().any(|wanted| wanted == event_type)
            }
        }
    }

    /// Returns why an event is refused: it could never be published, or it cannot be published now and its sender waits for
    /// an answer.
    ///
    /// An event that a service submitted is already committed, and its sender no longer waits: unless its type or topic is
    /// invalid, it is recorded and waits at its sink.
    pub(super) async fn refuses(&self, event: &Incoming, serving: &Serving) -> Option<Unsendable> {
        if let Arrival::Consumed(_) = event.arrival {
            return None;
        }
        let topic = event.topic();
        if !is_topic_name(&event.envelope.event_type) || !is_topic_name(topic) {
            return Some(Unsendable::NotATopic);
        }
        if event.envelope.event_type == self.notifications || topic == self.notifications {
            return Some(Unsendable::Notifications { topic: self.notifications.clone() });
        }
        let has_a_sender = event.arrival == Arrival::Posted || sabotaged("submitted-waits");
        let topics = self.topics.as_ref().filter(|_| has_a_sender)?;
        if !self.publishes(event, serving) {
            return None;
        }
        let refused = topics.refuse(topic, rows::event_bytes(event, topics.largest(topic))).await?;
        let is_believed = topics.names_any() || !matches!(refused, Unsendable::UnknownTopic { .. });
        is_believed.then_some(refused)
    }
}

/// Returns whether a configured name matches a topic. A trailing `*` matches any rest.
fn covers(named: &str, topic: &str) -> bool {
    match named.strip_suffix('*') {
        Some(beginning) => topic.starts_with(beginning),
        None => named == topic,
    }
}
