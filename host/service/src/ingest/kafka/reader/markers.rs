//! Moves positions past transaction markers. The end of a transaction occupies an offset that no record has, so a position
//! would remain before it for ever. A lag would be shown where there is none, and once retention has removed the marker, it
//! would look as if a record had been removed before it was read.
//!
//! librdkafka reports its position, which includes markers and records of aborted transactions. The report is trusted only
//! on a partition's first assignment, or after a seek since its assignment: only a seek reliably makes librdkafka forget an
//! earlier position.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::super::assignment::{Generation, HandOver};
use super::super::partition_batch::PartitionBatch;
use super::super::topic_partition::Place;
use super::{Reader, Turn};

/// The interval between checks. A partition is moved past markers if no record has arrived since the previous check.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time limit for a seek.
const REQUEST: Duration = Duration::from_secs(3);

/// The positions of the partitions at the last check.
#[derive(Default)]
pub(super) struct Idle {
    looked_at: Option<Instant>,
    stood: HashMap<Place, i64>,
}

impl Reader {
    /// Moves positions past markers in partitions where no record has arrived since the last check.
    pub(super) fn pass_markers(&self, turn: &mut Turn) {
        if turn.idle.looked_at.is_some_and(|looked_at| looked_at.elapsed() < LOOK_EVERY) {
            return;
        }
        turn.idle.looked_at = Some(Instant::now());
        let settled = self.assignment.settled();
        let now: HashMap<Place, i64> = settled.iter().map(|(place, _, next)| (place.clone(), *next)).collect();
        let before = std::mem::replace(&mut turn.idle.stood, now);
        let idle = settled.into_iter().filter(|(place, _, next)| before.get(place) == Some(next));
        self.pass(idle.collect(), turn);
    }

    /// Does the same before the reader ends, without waiting for records.
    pub(super) fn pass_last_markers(&self, turn: &mut Turn) {
        self.pass(self.assignment.settled(), turn);
    }

    fn pass(&self, idle: Vec<(Place, Generation, i64)>, turn: &mut Turn) {
        if idle.is_empty() {
            return;
        }
        let Ok(reached) = self.consumer.position() else { return };
        for (place, generation, next) in idle {
            let element = reached.find_partition(&place.topic, place.partition);
            let Some(Offset::Offset(reached)) = element.map(|element| element.offset()) else { continue };
            let passed_by_lead = self.lead.as_ref().is_none_or(|lead| lead.is_past(&place, reached - 1));
            if reached <= next || !passed_by_lead {
                continue;
            }
            if !self.assignment.is_sought(&place) {
                let sought = self.consumer.seek(&place.topic, place.partition, Offset::Offset(next), REQUEST);
                if sought.is_ok() {
                    self.assignment.sought(&place);
                }
                continue;
            }
            let mut run = PartitionBatch::new(place, generation, next);
            run.next = reached;
            if self.assignment.hand_over(&run.place, generation, reached, &[]) == HandOver::Done {
                tracing::debug!(place = %run.place, from = next, to = reached, "no records at these offsets; moving past markers");
                turn.waiting.push_back(run.into_job(&self.positions.group));
            }
        }
    }
}
