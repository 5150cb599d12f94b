//! Partitions and topics that are not read until an operator acts, as the log, the metrics and readiness show them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::topic_partition::Place;
use crate::kafka::Watermarks;

/// Why a partition is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// The position is after the end of the partition.
    #[error(
        "topic {} partition {}: its position {position} is beyond its end {high}: the topic was recreated, or this is \
         another cluster, or it was restored from a backup; determine which, then set the position from which to continue: \
         belfry position set {} {} earliest|latest|OFFSET",
        place.topic, place.partition, place.topic, place.partition
    )]
    BeyondEnd {
        /// The partition.
        place: Place,
        /// The position from which it was to be read.
        position: i64,
        /// The offset at which it ends.
        high: i64,
    },
    /// Records were removed before they were read.
    #[error(
        "topic {} partition {}: its position is {position}, and its oldest record is {low}: {} records were removed before \
         they were read, by retention or because the database was restored from an old backup; to continue without them: \
         belfry position set {} {} earliest",
        place.topic, place.partition, low - position, place.topic, place.partition
    )]
    Removed {
        /// The partition.
        place: Place,
        /// The position from which it was to be read.
        position: i64,
        /// The offset of its oldest record.
        low: i64,
    },
    /// Most of what is written to it is not JSON.
    #[error(
        "topic {} partition {}: more than half of the last 200 records are not JSON; correct the producer of the topic, \
         then use `belfry position set {} {} OFFSET`, or restart to continue at {position}",
        place.topic, place.partition, place.topic, place.partition
    )]
    NotJson {
        /// The partition.
        place: Place,
        /// The position at which it was stopped.
        position: i64,
    },
}

/// Checks whether a position can be read at all.
pub(super) fn in_range(place: &Place, position: i64, watermarks: Watermarks) -> Result<(), Unreadable> {
    let Watermarks { low, high } = watermarks;
    if position > high {
        return Err(Unreadable::BeyondEnd { place: place.clone(), position, high });
    }
    if position < low {
        return Err(Unreadable::Removed { place: place.clone(), position, low });
    }
    Ok(())
}

/// The partitions and topics that this replica does not read, and why. Cheap to clone; all clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Stopped {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<Place, String>,
    topics: BTreeMap<String, String>,
}

impl Stopped {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a partition is stopped, and reports it in log and metrics.
    pub(super) fn stop(&self, place: &Place, reason: String) {
        tracing::error!(topic = %place.topic, partition = place.partition, reason, "the partition is stopped");
        let (topic, partition) = (place.topic.to_string(), place.partition.to_string());
        metrics::counter!("belfry_partitions_stopped_total", "topic" => topic, "partition" => partition).increment(1);
        gauge(place).set(1.0);
        self.lock().partitions.insert(place.clone(), reason);
    }

    /// Notes that a partition is read again, or by another replica.
    pub(super) fn go_on(&self, place: &Place) {
        if self.lock().partitions.remove(place).is_some() {
            gauge(place).set(0.0);
        }
    }

    /// Notes that a topic is not read. Returns whether that or its reason is new.
    pub(super) fn topic(&self, topic: &str, reason: &str) -> bool {
        self.lock().topics.insert(topic.to_owned(), reason.to_owned()).is_none_or(|before| before != reason)
    }

    /// Keeps only the topics in `unread`: all others are read now, or no longer wanted.
    pub(super) fn only_topics(&self, unread: &std::collections::BTreeSet<String>) {
        self.lock().topics.retain(|topic, _| unread.contains(topic));
    }

    /// Returns the reason for each of them, topics first.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let state = self.lock();
        state.topics.values().chain(state.partitions.values()).cloned().collect()
    }
}

fn gauge(place: &Place) -> metrics::Gauge {
    let (topic, partition) = (place.topic.to_string(), place.partition.to_string());
    metrics::gauge!("belfry_partition_stopped", "topic" => topic, "partition" => partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_between_the_ends() {
        let (place, watermarks) = (Place::new("topic", 0), Watermarks { low: 3, high: 7 });
        for position in [3, 5, 7] {
            assert_eq!(in_range(&place, position, watermarks), Ok(()));
        }
        assert!(matches!(in_range(&place, 2, watermarks), Err(Unreadable::Removed { low: 3, .. })));
        assert!(matches!(in_range(&place, 8, watermarks), Err(Unreadable::BeyondEnd { high: 7, .. })));
    }

    #[test]
    fn what_goes_on_is_not_shown_any_more() {
        let (stopped, place) = (Stopped::default(), Place::new("topic", 0));
        stopped.stop(&place, "removed".into());
        assert!(stopped.topic("other", "no start") && !stopped.topic("other", "no start"));
        assert_eq!(stopped.reasons(), ["no start", "removed"]);
        stopped.go_on(&place);
        stopped.only_topics(&Default::default());
        assert!(stopped.reasons().is_empty());
    }
}
