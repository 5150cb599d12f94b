//! Topics of which a sink takes nothing: their entries are parked, and all others go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use belfry_store::HeldTopic;

/// How often is looked whether a topic is there by now.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pauses between two attempts at a topic whose entries the sink refused. Each attempt costs a session.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The topics, as all sessions since the lease was taken know them.
#[derive(Default)]
pub(super) struct HeldTopics {
    topics: BTreeMap<String, Held>,
}

struct Held {
    reason: String,
    /// How often in a row the sink refused what was sent.
    refused: u32,
    /// When it is tried again.
    try_at: Instant,
    /// The sink took something: the rest follows.
    takes: bool,
}

impl HeldTopics {
    /// Why a topic is held, if it is.
    pub(super) fn reason(&self, topic: &str) -> Option<&str> {
        self.topics.get(topic).map(|held| held.reason.as_str())
    }

    /// The topic that waits longest for its turn, if one is to be tried now.
    pub(super) fn due(&self, now: Instant) -> Option<String> {
        let due = self.topics.iter().filter(|(_, held)| held.try_at <= now);
        due.min_by_key(|(_, held)| held.try_at).map(|(topic, _)| topic.clone())
    }

    /// The sink does not have a topic.
    pub(super) fn is_missing(&mut self, topic: &str, reason: &str) {
        let held = self.hold(topic, reason);
        held.try_at = Instant::now() + LOOK_EVERY;
    }

    /// The sink refused what was sent to a topic.
    pub(super) fn refused(&mut self, topic: &str, reason: &str) {
        let held = self.hold(topic, reason);
        held.try_at = Instant::now() + (FIRST_PAUSE * 2u32.saturating_pow(held.refused.min(8))).min(LONGEST_PAUSE);
        held.refused += 1;
    }

    fn hold(&mut self, topic: &str, reason: &str) -> &mut Held {
        let held = self.topics.entry(topic.to_owned()).or_insert_with(|| {
            tracing::error!(topic, reason, "a topic is held back: its entries are parked until the sink takes them");
            Held { reason: String::new(), refused: 0, try_at: Instant::now(), takes: false }
        });
        reason.clone_into(&mut held.reason);
        held.takes = false;
        held
    }

    /// What another holder of the lease, or an earlier session, has held back.
    pub(super) fn adopt(&mut self, held: Vec<HeldTopic>) {
        for HeldTopic { topic, reason } in held {
            if !self.topics.contains_key(&topic) {
                self.hold(&topic, &reason);
            }
        }
    }

    /// Try all of them now.
    pub(super) fn try_now(&mut self) {
        self.topics.values_mut().for_each(|held| held.try_at = Instant::now());
    }

    /// Whether the sink took something of a topic since it was held.
    pub(super) fn takes(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|held| held.takes)
    }

    /// The sink took something of a topic.
    pub(super) fn took(&mut self, topic: &str) {
        if let Some(held) = self.topics.get_mut(topic) {
            held.takes = true;
            held.refused = 0;
            held.try_at = Instant::now();
        }
    }

    /// A topic is held no more.
    pub(super) fn lift(&mut self, topic: &str) {
        if self.topics.remove(topic).is_some() {
            tracing::info!(topic, "a topic is held back no more: none of its entries waits");
        }
    }

    /// All of them, with the reason.
    pub(super) fn reasons(&self) -> BTreeMap<String, String> {
        self.topics.iter().map(|(topic, held)| (topic.clone(), held.reason.clone())).collect()
    }
}

/// What sessions find out that the next one has to know.
#[derive(Default)]
pub(super) struct Known {
    pub(super) held: HeldTopics,
    /// The number of the last request for parked entries that was looked at.
    pub(super) requests: i64,
    /// Parked entries up to here are sent one at a time: some of them were refused together.
    pub(super) careful_up_to: i64,
}
