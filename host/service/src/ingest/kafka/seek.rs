//! The reader's other work: to find out where partitions are to be read, to go there, and to stop where that makes no
//! sense.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::lead::Lead;
use super::place::Place;
use super::positions::Unplaced;
use super::reader::{Reader, Turn, list};
use super::stopped::in_range;
use crate::kafka::Watermarks;

/// How long the cluster may take to answer.
const REQUEST: Duration = Duration::from_secs(3);
/// After so many attempts in vain, a partition is taken anew instead of being sought.
const SEEKS: u32 = 3;

impl Reader {
    /// Read positions again that are not known for sure, and go on from there.
    pub(super) fn find_adrift(&self, turn: &mut Turn) {
        let adrift = self.assignment.adrift();
        if adrift.is_empty() {
            return;
        }
        let found = match self.positions.of(&adrift) {
            Ok(found) => found,
            Err(error) => {
                self.say(turn, format!("positions cannot be read: {error}"));
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
                tracing::info!(topic = %place.topic, partition = place.partition, position, "a partition is read from here");
                self.assignment.resume(place, position, is_sought);
                self.stopped.go_on(place);
                if !turn.paused {
                    self.report("resume", self.consumer.resume(&list(std::slice::from_ref(place))));
                }
            }
            Err(error) => tracing::debug!(%error, %place, position, "cannot seek; trying again"),
        }
    }

    /// Read on where the group ahead has come past what was waited for.
    pub(super) fn follow_lead(&mut self, turn: &mut Turn) {
        let passed = match self.lead.as_mut().map(Lead::look) {
            None => return,
            Some(Ok(passed)) => passed,
            Some(Err(error)) => {
                return self.say(turn, format!("kafka does not say how far the group ahead is: {error}"));
            }
        };
        let ours: Vec<Place> = passed.into_iter().filter(|place| self.assignment.open(place).is_some()).collect();
        if !ours.is_empty() && !turn.paused {
            self.report("resume", self.consumer.resume(&list(&ours)));
        }
    }

    /// The group ahead has not dealt with the records at these offsets: they are read again once it has, and whatever else
    /// was not handed over.
    pub(super) fn wait_for_lead(&mut self, ahead: Vec<(Place, i64)>) {
        for (place, offset) in ahead {
            self.report("pause", self.consumer.pause(&list(std::slice::from_ref(&place))));
            let Some((_, next)) = self.assignment.open(&place) else { continue };
            match self.consumer.seek(&place.topic, place.partition, Offset::Offset(next), REQUEST) {
                Ok(()) => self.lead.as_mut().map(|lead| lead.wait(place, offset)).unwrap_or_default(),
                // It is sought again from its position.
                Err(_) => self.assignment.forget(&place),
            }
        }
    }

    /// After an offset that the broker does not have, librdkafka takes no seek for the partition.
    fn take_anew(&self, place: &Place, position: i64) -> KafkaResult<()> {
        let mut partition = TopicPartitionList::with_capacity(1);
        partition.add_partition_offset(&place.topic, place.partition, Offset::Offset(position))?;
        self.consumer.incremental_unassign(&partition)?;
        self.consumer.incremental_assign(&partition)
    }

    /// A partition does not have the offset that was asked for; which one is not told.
    pub(super) fn check_ranges(&self) {
        for place in self.assignment.running() {
            let Some((_, next)) = self.assignment.open(&place) else { continue };
            let range = self.consumer.fetch_watermarks(&place.topic, place.partition, REQUEST);
            match range.map(|(low, high)| in_range(&place, next, Watermarks { low, high })) {
                Ok(Err(unreadable)) => {
                    self.assignment.stop(&place);
                    self.stop(&place, unreadable.to_string());
                }
                // It was stopped by librdkafka, if it was this one.
                Ok(Ok(())) | Err(_) => {
                    self.assignment.postpone(&place);
                }
            }
        }
    }

    /// Read nothing of a partition that was stopped, and raise the alarm.
    pub(super) fn stop(&self, place: &Place, reason: String) {
        self.report("pause", self.consumer.pause(&list(std::slice::from_ref(place))));
        self.stopped.stop(place, reason);
    }
}
