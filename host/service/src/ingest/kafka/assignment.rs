//! The partitions assigned to this replica, and the positions up to which each has been handed over and committed. The
//! callbacks, the reader and the committer share it.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::topic_partition::Place;
use super::window::Window;

/// The longest pause before a partition's position is read again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Identifies the records handed over since a position was read from the database. They become void once the position is
/// read again.
pub(super) type Generation = u64;

struct Partition {
    generation: Generation,
    /// The database's position once all records handed over are committed. `None` if the position has to be read again.
    next: Option<i64>,
    /// The database's position according to the commits acknowledged so far.
    committed: i64,
    /// The offset last committed to Kafka.
    sent_to_broker: i64,
    /// The number of runs handed over and not yet settled.
    under_way: usize,
    /// The partition is not read until an operator sets its position.
    stopped: bool,
    /// A seek has succeeded since the assignment, or this is the first assignment: librdkafka's position in the partition
    /// is reliable.
    sought: bool,
    window: Window,
    failures: u32,
    not_before: Instant,
}

/// All partitions of this replica.
#[derive(Default)]
pub(super) struct Assignment {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    partitions: HashMap<Place, Partition>,
    /// All partitions ever assigned.
    met: HashSet<Place>,
    generations: Generation,
}

/// The result of handing over records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    Done,
    /// Not done: the records were read before the position was discarded.
    Void,
    /// Done, and the partition is stopped: too many of its records are not JSON.
    Stopped,
}

impl Assignment {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an assigned partition. Without a `position`, the position has to be determined.
    pub(super) fn add(&self, place: Place, position: Option<i64>) {
        let mut state = self.lock();
        state.generations += 1;
        let partition = Partition {
            generation: state.generations,
            next: position,
            committed: position.unwrap_or(-1),
            sent_to_broker: -1,
            under_way: 0,
            stopped: false,
            sought: state.met.insert(place.clone()) && position.is_some(),
            window: Window::default(),
            failures: 0,
            not_before: Instant::now(),
        };
        state.partitions.insert(place, partition);
    }

    /// Removes revoked partitions, after waiting up to `patience` for their runs in flight. Returns the positions that were
    /// not yet committed to Kafka.
    pub(super) fn remove(&self, places: &[Place], patience: Duration) -> Vec<(Place, i64)> {
        let busy = |state: &mut State| {
            places.iter().any(|place| state.partitions.get(place).is_some_and(|partition| partition.under_way > 0))
        };
        let waited = self.settled.wait_timeout_while(self.lock(), patience, busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let removed = places.iter().filter_map(|place| state.partitions.remove(place).map(|was| (place, was)));
        removed.filter(|(_, was)| was.is_untold()).map(|(place, was)| (place.clone(), was.committed)).collect()
    }

    /// Returns all partitions.
    pub(super) fn places(&self) -> Vec<Place> {
        self.lock().partitions.keys().cloned().collect()
    }

    /// Returns the partitions that are not stopped.
    pub(super) fn running(&self) -> Vec<Place> {
        let state = self.lock();
        state.partitions.iter().filter(|(_, partition)| !partition.stopped).map(|(place, _)| place.clone()).collect()
    }

    /// Returns the generation and the first offset that was not handed over. `None` if the partition must not be read now.
    pub(super) fn open(&self, place: &Place) -> Option<(Generation, i64)> {
        let state = self.lock();
        let partition = state.partitions.get(place).filter(|partition| !partition.stopped)?;
        Some((partition.generation, partition.next?))
    }

    /// Notes that records up to `next` are handed over. `decoded` shows which of them were JSON.
    pub(super) fn hand_over(&self, place: &Place, generation: Generation, next: i64, decoded: &[bool]) -> HandOver {
        let mut state = self.lock();
        let Some(partition) = state.partitions.get_mut(place).filter(|partition| partition.is(generation)) else {
            return HandOver::Void;
        };
        partition.next = Some(next);
        for decoded in decoded {
            partition.stopped |= partition.window.add(*decoded);
        }
        if partition.stopped { HandOver::Stopped } else { HandOver::Done }
    }

    /// Returns whether records handed over in this generation are still valid.
    pub(super) fn is_current(&self, place: &Place, generation: Generation) -> bool {
        self.lock().partitions.get(place).is_some_and(|partition| partition.is(generation))
    }

    /// Notes that a run is on its way to the committer. Returns false if the run is void.
    pub(super) fn begin(&self, place: &Place, generation: Generation) -> bool {
        let mut state = self.lock();
        let partition = state.partitions.get_mut(place).filter(|partition| partition.is(generation));
        partition.map(|partition| partition.under_way += 1).is_some()
    }

    /// Notes that a run has ended: with this position committed, or without effect.
    pub(super) fn settle(&self, place: &Place, generation: Generation, committed: Option<i64>) {
        let mut state = self.lock();
        if let Some(partition) = state.partitions.get_mut(place).filter(|partition| partition.generation == generation)
        {
            partition.under_way = partition.under_way.saturating_sub(1);
            if let Some(committed) = committed {
                partition.committed = committed;
                partition.failures = 0;
            }
        }
        self.settled.notify_all();
    }

    /// Discards a partition's position, so that it is read from the database again.
    pub(super) fn forget(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.forget();
        }
    }

    /// Does the same for all partitions.
    pub(super) fn forget_all(&self) {
        self.lock().partitions.values_mut().for_each(Partition::forget);
    }

    /// Returns the partitions whose positions have to be read now. No run in flight can still move these positions.
    pub(super) fn adrift(&self) -> Vec<Place> {
        let now = Instant::now();
        let is_adrift =
            |partition: &Partition| partition.next.is_none() && partition.under_way == 0 && partition.not_before <= now;
        let state = self.lock();
        state.partitions.iter().filter(|(_, partition)| is_adrift(partition)).map(|(place, _)| place.clone()).collect()
    }

    /// Notes a position read from the database. Returns whether reading resumes there: a stopped partition remains stopped
    /// until its position is set to another value.
    pub(super) fn found(&self, place: &Place, position: i64) -> bool {
        let mut state = self.lock();
        let Some(partition) = state.partitions.get_mut(place) else { return false };
        if partition.stopped && partition.committed == position {
            partition.next = Some(position);
            return false;
        }
        partition.stopped = false;
        true
    }

    /// Resumes a partition at this position, after a seek or after unassigning and assigning it again.
    pub(super) fn resume(&self, place: &Place, position: i64, sought: bool) {
        let mut state = self.lock();
        state.generations += 1;
        let generation = state.generations;
        if let Some(partition) = state.partitions.get_mut(place) {
            partition.generation = generation;
            partition.next = Some(position);
            partition.committed = position;
            partition.sought = sought;
            partition.window = Window::default();
        }
    }

    /// Records a failure to determine the partition's position or to read from it. Returns the number of consecutive
    /// failures.
    pub(super) fn postpone(&self, place: &Place) -> u32 {
        let mut state = self.lock();
        state.partitions.get_mut(place).map_or(0, |partition| {
            partition.forget();
            partition.not_before = partition.not_before.max(Instant::now() + FIRST_PAUSE);
            partition.failures
        })
    }

    /// Stops the partition until an operator sets its position.
    pub(super) fn stop(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.stopped = true;
            partition.next = partition.next.or(Some(partition.committed));
        }
    }

    /// Does the same, but accepts any position that is found next: the topic of the current position is gone.
    pub(super) fn stop_until_found(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.stopped = true;
            partition.committed = -1;
            partition.next = Some(-1);
        }
    }

    /// Does the same as [`forget`](Self::forget) for all partitions of a topic.
    pub(super) fn forget_topic(&self, topic: &str) {
        let mut state = self.lock();
        let of_topic = state.partitions.iter_mut().filter(|(place, _)| *place.topic == *topic);
        of_topic.for_each(|(_, partition)| partition.forget());
    }

    /// Returns the partitions that are read and have no run in flight, with their positions.
    pub(super) fn settled(&self) -> Vec<(Place, Generation, i64)> {
        let state = self.lock();
        let is_settled = |partition: &Partition| {
            !partition.stopped && partition.under_way == 0 && partition.next == Some(partition.committed)
        };
        let settled = state.partitions.iter().filter(|(_, partition)| is_settled(partition));
        settled.map(|(place, partition)| (place.clone(), partition.generation, partition.committed)).collect()
    }

    /// Returns whether librdkafka's position in a partition is reliable.
    pub(super) fn is_sought(&self, place: &Place) -> bool {
        self.lock().partitions.get(place).is_some_and(|partition| partition.sought)
    }

    /// Notes a seek to the partition's position.
    pub(super) fn sought(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.sought = true;
        }
    }

    /// Returns the positions that are not yet committed to Kafka, and marks them as committed there.
    pub(super) fn untold(&self) -> Vec<(Place, i64)> {
        let mut state = self.lock();
        let untold = state.partitions.iter_mut().filter(|(_, partition)| partition.is_untold());
        untold
            .map(|(place, partition)| {
                partition.sent_to_broker = partition.committed;
                (place.clone(), partition.committed)
            })
            .collect()
    }

    /// Returns a partition's committed position.
    pub(super) fn committed(&self, place: &Place) -> Option<i64> {
        self.lock().partitions.get(place).map(|partition| partition.committed).filter(|committed| *committed >= 0)
    }

    /// Waits until no run is in flight, but no longer than `patience`.
    pub(super) fn wait_until_settled(&self, patience: Duration) {
        let busy = |state: &mut State| state.partitions.values().any(|partition| partition.under_way > 0);
        drop(self.settled.wait_timeout_while(self.lock(), patience, busy));
    }
}

impl Partition {
    fn is(&self, generation: Generation) -> bool {
        self.generation == generation && self.next.is_some()
    }

    fn is_untold(&self) -> bool {
        self.committed >= 0 && self.committed != self.sent_to_broker
    }

    /// The first retry is immediate, later ones back off: another replica may be reading the partition, too.
    fn forget(&mut self) {
        self.next = None;
        let span = if self.failures == 0 { Duration::ZERO } else { FIRST_PAUSE * (1 << self.failures.min(8)) };
        self.not_before = Instant::now() + span.min(LONGEST_PAUSE).mul_f64(fastrand::f64());
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(position: i64) -> (Assignment, Place) {
        let (assignment, place) = (Assignment::default(), Place::new("topic", 0));
        assignment.add(place.clone(), Some(position));
        (assignment, place)
    }

    #[test]
    fn what_was_handed_over_before_a_position_was_given_up_is_void() {
        let (assignment, place) = assigned(5);
        let (generation, next) = assignment.open(&place).expect("the partition is read");
        assert_eq!(next, 5);
        assert_eq!(assignment.hand_over(&place, generation, 9, &[true; 4]), HandOver::Done);
        assert!(assignment.begin(&place, generation));
        assignment.forget(&place);
        assert!(!assignment.begin(&place, generation), "its position was discarded");
        assert_eq!(assignment.hand_over(&place, generation, 12, &[]), HandOver::Void);
        assert!(assignment.adrift().is_empty(), "a run is still in flight");
        assignment.settle(&place, generation, None);
        assert_eq!(assignment.adrift(), std::slice::from_ref(&place));
        assert!(assignment.found(&place, 7));
        assignment.resume(&place, 7, true);
        assert!(!assignment.is_current(&place, generation));
        assert_eq!(assignment.open(&place).map(|(_, next)| next), Some(7));
    }

    #[test]
    fn a_stopped_partition_goes_on_where_its_position_is_set() {
        let (assignment, place) = assigned(5);
        assignment.stop(&place);
        assignment.forget_all();
        assert!(!assignment.found(&place, 5), "its position was not set");
        assert_eq!(assignment.open(&place), None);
        assignment.forget_all();
        assert!(assignment.found(&place, 8));
        assignment.resume(&place, 8, true);
        assert_eq!(assignment.open(&place).map(|(_, next)| next), Some(8));
    }

    #[test]
    fn a_partition_of_a_topic_that_is_another_goes_on_wherever_it_is_set() {
        let (assignment, place) = assigned(5);
        assignment.stop_until_found(&place);
        assert!(assignment.untold().is_empty() && assignment.adrift().is_empty() && assignment.open(&place).is_none());
        assignment.forget_topic("topic");
        assert_eq!(assignment.adrift(), std::slice::from_ref(&place));
        assert!(assignment.found(&place, 5), "it may be set to the same number");
    }

    #[test]
    fn how_far_librdkafka_has_come_is_believed_at_first_and_after_a_seek() {
        let (assignment, place) = assigned(5);
        assert!(assignment.is_sought(&place));
        assert_eq!(assignment.settled().len(), 1);
        assignment.remove(std::slice::from_ref(&place), Duration::ZERO);
        assignment.add(place.clone(), Some(5));
        assert!(!assignment.is_sought(&place), "librdkafka may still remember an earlier position");
        assignment.sought(&place);
        assert!(assignment.is_sought(&place));
        assignment.resume(&place, 5, false);
        assert!(!assignment.is_sought(&place));
    }

    #[test]
    fn what_is_committed_is_told_once() {
        let (assignment, place) = assigned(0);
        let (generation, _) = assignment.open(&place).expect("the partition is read");
        assert!(assignment.begin(&place, generation));
        assignment.settle(&place, generation, Some(3));
        assert_eq!(assignment.untold(), [(place.clone(), 3)]);
        assert!(assignment.untold().is_empty());
        assert!(assignment.remove(&[place], Duration::ZERO).is_empty());
    }
}
