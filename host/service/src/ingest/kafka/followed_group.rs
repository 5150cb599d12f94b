//! The group that Belfry follows (`kafka.behind`): while Belfry observes, it reads no record that the group has not
//! processed. So the members of that group have already sent the notifications for everything that Belfry has recorded.
//! Once both are at the same position, one can take over from the other without a gap, and without sending anything twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;

use super::topic_partition::Place;
use crate::kafka::{Client, Cluster};

/// How often the group's offsets are queried while a partition waits for it.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The group that is followed.
pub(super) struct FollowedGroup {
    cluster: Cluster,
    /// The offsets that the group has committed, as far as they are known. It has processed all records before them.
    committed: HashMap<Place, i64>,
    /// Partitions that are paused until the group has processed the record at this offset.
    waiting: HashMap<Place, i64>,
    asked_at: Option<Instant>,
}

impl FollowedGroup {
    pub(super) fn new(client: &Client, group: &str) -> KafkaResult<Self> {
        let cluster = client.cluster_as_group(group)?;
        Ok(Self { cluster, committed: HashMap::new(), waiting: HashMap::new(), asked_at: None })
    }

    /// Returns whether the group has processed a record.
    pub(super) fn is_past(&self, place: &Place, offset: i64) -> bool {
        self.committed.get(place).is_some_and(|committed| *committed > offset)
    }

    /// Notes that a partition is paused until the group is past this offset.
    pub(super) fn wait(&mut self, place: Place, offset: i64) {
        self.waiting.insert(place, offset);
    }

    /// Queries the group's offsets, if a partition waits for it. Returns the partitions that need not wait any longer.
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
