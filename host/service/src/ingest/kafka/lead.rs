//! Another group that is followed: while Belfry observes, it reads nothing that the group has not dealt with. So all that
//! Belfry has recorded was told by whoever is in that group, and where both stand in the same place, one can follow the
//! other without a gap and without telling anything twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;

use super::place::Place;
use crate::kafka::{Client, Cluster};

/// How often the group is asked while something waits for it.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The group that goes ahead.
pub(super) struct Lead {
    cluster: Cluster,
    /// The offsets that it has committed, as far as they are known. What lies before them it has dealt with.
    committed: HashMap<Place, i64>,
    /// Partitions that are not read on until the group has dealt with the record at this offset.
    waiting: HashMap<Place, i64>,
    asked_at: Option<Instant>,
}

impl Lead {
    pub(super) fn new(client: &Client, group: &str) -> KafkaResult<Self> {
        let cluster = client.cluster_as_group(group)?;
        Ok(Self { cluster, committed: HashMap::new(), waiting: HashMap::new(), asked_at: None })
    }

    /// Whether the group has dealt with a record.
    pub(super) fn is_past(&self, place: &Place, offset: i64) -> bool {
        self.committed.get(place).is_some_and(|committed| *committed > offset)
    }

    /// A partition is not read on until the group is past this offset.
    pub(super) fn wait(&mut self, place: Place, offset: i64) {
        self.waiting.insert(place, offset);
    }

    /// Find out how far the group is, if something waits for it. Gives the partitions that need not wait any more.
    pub(super) fn look(&mut self) -> KafkaResult<Vec<Place>> {
        if self.waiting.is_empty() || self.asked_at.is_some_and(|asked_at| asked_at.elapsed() < ASK_EVERY) {
            return Ok(Vec::new());
        }
        self.asked_at = Some(Instant::now());
        let asked: Vec<(String, i32)> =
            self.waiting.keys().map(|place| (place.topic.to_string(), place.partition)).collect();
        for (topic, partition, committed) in self.cluster.committed(&asked)? {
            self.committed.insert(Place::new(&topic, partition), committed);
        }
        let is_passed = |(place, offset): (&Place, &i64)| self.is_past(place, *offset).then(|| place.clone());
        let passed: Vec<Place> = self.waiting.iter().filter_map(is_passed).collect();
        self.waiting.retain(|place, _| !passed.contains(place));
        Ok(passed)
    }
}
