//! The reader's other work: determining the positions of partitions, seeking to them, and stopping partitions that cannot
//! be read there.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::followed_group::FollowedGroup;
use super::positions::Unplaced;
use super::reader::{Reader, Turn, list};
use super::stopped_partitions::in_range;
use super::topic_partition::Place;
use crate::kafka::Watermarks;

/// Time limit for the cluster to answer.
const REQUEST: Duration = Duration::from_secs(3);
/// After this number of failed seeks, a partition is unassigned and assigned again instead.
const SEEKS: u32 = 3;

impl Reader {
    /// Reads discarded positions again, and resumes there.
    pub(super) fn find_adrift(&self, turn: &mut Turn) {
        let adrift = self.assignment.adrift();
        if adrift.is_empty() {
            return;
        }
        let found = match self.positions.of(&adrift) {
            Ok(found) => found,
            Err(error) => {
                self.say(turn, format!("cannot read positions: {error}"));
                for place in &adrift {
                    self.assignment.postpone(place);
                }
                return;
            }
        };
        for (place, position) in found {
            match position {
                Ok(position) if self.assignment.found(&place, position) => self.seek(&place, position, turn),
                Ok(_) => {}
                Err(error @ Unplaced::MadeAnew { .. }) => {
                    self.assignment.stop_until_found(&place);
                    self.stop(&place, error.to_string());
                }
                Err(error) => {
                    self.say(turn, format!("{place} cannot be read: {error}"));
                    self.assignment.postpone(&place);
                }
            }
        }
    }

    fn seek(&self, place: &Place, position: i64, turn: &mut Turn) {
        let mut sought = self.consumer.seek(&place.topic, place.partition, Offset::Offset(position), REQUEST);
        let is_sought = sought.is_ok();
        if sought.is_err() && self.assignment.postpone(place) > SEEKS {
            sought = self.take_anew(place, position);
        }
        match sought {
            Ok(()) => {
                tracing::info!(topic = %place.topic, partition = place.partition, position, "reading a partition from this position");
                self.assignment.resume(place, position, is_sought);
                self.stopped.go_on(place);
                if !turn.paused {
                    self.report("resume", self.consumer.resume(&list(std::slice::from_ref(place))));
                }
            }
            Err(error) => tracing::debug!(%error, %place, position, "cannot seek; retrying"),
        }
    }

    /// Resumes partitions where the group ahead has passed the awaited offset.
    pub(super) fn follow_lead(&mut self, turn: &mut Turn) {
        let passed = match self.lead.as_mut().map(FollowedGroup::look) {
            None => return,
            Some(Ok(passed)) => passed,
            Some(Err(error)) => {
                return self.say(turn, format!("cannot read the offsets of the group ahead from kafka: {error}"));
            }
        };
        let ours: Vec<Place> = passed.into_iter().filter(|place| self.assignment.open(place).is_some()).collect();
        if !ours.is_empty() && !turn.paused {
            self.report("resume", self.consumer.resume(&list(&ours)));
        }
    }

    /// Pauses partitions until the group ahead has processed the records at these offsets. Then all records that were not
    /// handed over are read again.
    pub(super) fn wait_for_lead(&mut self, ahead: Vec<(Place, i64)>) {
        for (place, offset) in ahead {
            self.report("pause", self.consumer.pause(&list(std::slice::from_ref(&place))));
            let Some((_, next)) = self.assignment.open(&place) else { continue };
            match self.consumer.seek(&place.topic, place.partition, Offset::Offset(next), REQUEST) {
                Ok(()) => self.lead.as_mut().map(|lead| lead.wait(place, offset)).unwrap_or_default(),
                // Another seek to the partition's position follows.
                Err(_) => self.assignment.forget(&place),
            }
        }
    }

    /// Unassigns a partition and assigns it again. After an offset that the broker does not have, librdkafka accepts no
    /// seek for the partition.
    fn take_anew(&self, place: &Place, position: i64) -> KafkaResult<()> {
        let mut partition = TopicPartitionList::with_capacity(1);
        partition.add_partition_offset(&place.topic, place.partition, Offset::Offset(position))?;
        self.consumer.incremental_unassign(&partition)?;
        self.consumer.incremental_assign(&partition)
    }

    /// Checks all partitions, after one did not have the requested offset. librdkafka does not report which one.
    pub(super) fn check_ranges(&self) {
        for place in self.assignment.running() {
            let Some((_, next)) = self.assignment.open(&place) else { continue };
            let range = self.consumer.fetch_watermarks(&place.topic, place.partition, REQUEST);
            match range.map(|(low, high)| in_range(&place, next, Watermarks { low, high })) {
                Ok(Err(unreadable)) => {
                    self.assignment.stop(&place);
                    self.stop(&place, unreadable.to_string());
                }
                // If it was this partition, librdkafka has stopped it.
                Ok(Ok(())) | Err(_) => {
                    self.assignment.postpone(&place);
                }
            }
        }
    }

    /// Pauses a stopped partition, and raises the alarm.
    pub(super) fn stop(&self, place: &Place, reason: String) {
        self.report("pause", self.consumer.pause(&list(std::slice::from_ref(place))));
        self.stopped.stop(place, reason);
    }
}
