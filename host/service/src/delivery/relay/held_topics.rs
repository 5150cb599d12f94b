//! Topics of which a sink accepts nothing: their entries are parked, and all others continue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use belfry_store::HeldTopic;

/// How often a missing topic is checked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The bounds of the backoff between attempts at a topic whose entries the sink refused. Each attempt costs a session.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The held topics, shared by all sessions since the lease was taken.
#[derive(Default)]
pub(super) struct HeldTopics {
    topics: BTreeMap<String, Held>,
}

struct Held {
    reason: String,
    /// Consecutive refusals by the sink.
    refused: u32,
    /// When the topic is tried again.
    try_at: Instant,
    /// The sink has accepted an entry: the rest follows.
    takes: bool,
}

impl HeldTopics {
    /// Returns why a topic is held, if it is.
    pub(super) fn reason(&self, topic: &str) -> Option<&str> {
        self.topics.get(topic).map(|held| held.reason.as_str())
    }

    /// Returns the topic that has been due longest, if any is due.
    pub(super) fn due(&self, now: Instant) -> Option<String> {
        let due = self.topics.iter().filter(|(_, held)| held.try_at <= now);
        due.min_by_key(|(_, held)| held.try_at).map(|(topic, _)| topic.clone())
    }

    /// Holds a topic that the sink does not have.
    pub(super) fn is_missing(&mut self, topic: &str, reason: &str) {
        let held = self.hold(topic, reason);
        held.try_at = Instant::now() + LOOK_EVERY;
    }

    /// Holds a topic whose entries the sink refused.
    pub(super) fn refused(&mut self, topic: &str, reason: &str) {
        let held = self.hold(topic, reason);
        held.try_at = Instant::now() + (FIRST_PAUSE * 2u32.saturating_pow(held.refused.min(8))).min(LONGEST_PAUSE);
        held.refused += 1;
    }

    fn hold(&mut self, topic: &str, reason: &str) -> &mut Held {
        let held = self.topics.entry(topic.to_owned()).or_insert_with(|| {
            tracing::error!(topic, reason, "a topic is held back: its entries are parked until the sink accepts them");
            Held { reason: String::new(), refused: 0, try_at: Instant::now(), takes: false }
        });
        reason.clone_into(&mut held.reason);
        held.takes = false;
        held
    }

    /// Adds topics that another holder of the lease, or an earlier session, has held.
    pub(super) fn adopt(&mut self, held: Vec<HeldTopic>) {
        for HeldTopic { topic, reason } in held {
            if !self.topics.contains_key(&topic) {
                self.hold(&topic, &reason);
            }
        }
    }

    /// Makes all held topics due now.
    pub(super) fn try_now(&mut self) {
        self.topics.values_mut().for_each(|held| held.try_at = Instant::now());
    }

    /// Returns whether the sink has accepted an entry of a topic since it was held.
    pub(super) fn takes(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|held| held.takes)
    }

    /// Notes that the sink accepted an entry of a topic.
    pub(super) fn took(&mut self, topic: &str) {
        if let Some(held) = self.topics.get_mut(topic) {
            held.takes = true;
            held.refused = 0;
            held.try_at = Instant::now();
        }
    }

    /// Releases a held topic.
    pub(super) fn lift(&mut self, topic: &str) {
        if self.topics.remove(topic).is_some() {
            tracing::info!(topic, "a topic is no longer held back: none of its entries is waiting");
        }
    }

    /// Returns all held topics, with the reasons.
    pub(super) fn reasons(&self) -> BTreeMap<String, String> {
        self.topics.iter().map(|(topic, held)| (topic.clone(), held.reason.clone())).collect()
    }
}

/// State that one session passes to the next.
#[derive(Default)]
pub(super) struct Known {
    pub(super) held: HeldTopics,
    /// The number of the last request about parked entries that was handled.
    pub(super) requests: i64,
    /// Parked entries up to this position are sent one at a time: some of them were refused together.
    pub(super) careful_up_to: i64,
}
