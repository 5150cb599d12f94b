//! The partitions that this replica reads now, and how far each has been handed over and committed. The callbacks, the
//! reader and the committer share it.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::place::Place;
use super::window::Window;

/// The longest pause before a partition's position is read again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What was handed over since a position was read from the database. Once that is read again, it is void.
pub(super) type Generation = u64;

struct Partition {
    generation: Generation,
    /// Where the database will stand once all that was handed over is committed; none if that has to be read from it.
    next: Option<i64>,
    /// Where it stands as far as commits were answered.
    committed: i64,
    /// As far as Kafka was told.
    told: i64,
    /// What was handed over and has come to no end.
    under_way: usize,
    /// It is not read until its position is set.
    stopped: bool,
    /// It was sought since it is ours, or is ours for the first time: how far librdkafka has come in it can be believed.
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
    /// All that were ever ours.
    met: HashSet<Place>,
    generations: Generation,
}

/// Whether records were handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    Done,
    /// They were read before the position was given up.
    Void,
    /// Done, and the partition has too much that is no event: it is stopped.
    Stopped,
}

impl Assignment {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is ours from now on; without a position, that has to be found out.
    pub(super) fn add(&self, place: Place, position: Option<i64>) {
        let mut state = self.lock();
        state.generations += 1;
        let partition = Partition {
            generation: state.generations,
            next: position,
            committed: position.unwrap_or(-1),
            told: -1,
            under_way: 0,
            stopped: false,
            sought: state.met.insert(place.clone()) && position.is_some(),
            window: Window::default(),
            failures: 0,
            not_before: Instant::now(),
        };
        state.partitions.insert(place, partition);
    }

    /// Partitions are ours no more. Waits so long for what is under way; gives how far each is committed.
    pub(super) fn remove(&self, places: &[Place], patience: Duration) -> Vec<(Place, i64)> {
        let busy = |state: &mut State| {
            places.iter().any(|place| state.partitions.get(place).is_some_and(|partition| partition.under_way > 0))
        };
        let waited = self.settled.wait_timeout_while(self.lock(), patience, busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let removed = places.iter().filter_map(|place| state.partitions.remove(place).map(|was| (place, was)));
        removed.filter(|(_, was)| was.is_untold()).map(|(place, was)| (place.clone(), was.committed)).collect()
    }

    /// All partitions.
    pub(super) fn places(&self) -> Vec<Place> {
        self.lock().partitions.keys().cloned().collect()
    }

    /// Those that are not stopped.
    pub(super) fn running(&self) -> Vec<Place> {
        let state = self.lock();
        state.partitions.iter().filter(|(_, partition)| !partition.stopped).map(|(place, _)| place.clone()).collect()
    }

    /// Where a record may be taken from: the generation and the first offset that was not handed over.
    pub(super) fn open(&self, place: &Place) -> Option<(Generation, i64)> {
        let state = self.lock();
        let partition = state.partitions.get(place).filter(|partition| !partition.stopped)?;
        Some((partition.generation, partition.next?))
    }

    /// Records up to `next` are handed over; `decoded` tells which of them were JSON.
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

    /// Whether what was handed over still counts.
    pub(super) fn is_current(&self, place: &Place, generation: Generation) -> bool {
        self.lock().partitions.get(place).is_some_and(|partition| partition.is(generation))
    }

    /// Something handed over is on its way to the committer, unless it is void.
    pub(super) fn begin(&self, place: &Place, generation: Generation) -> bool {
        let mut state = self.lock();
        let partition = state.partitions.get_mut(place).filter(|partition| partition.is(generation));
        partition.map(|partition| partition.under_way += 1).is_some()
    }

    /// Something that was on its way has come to its end: with this position of the database, or without effect.
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

    /// Where a partition stands has to be read from the database again.
    pub(super) fn forget(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.forget();
        }
    }

    /// The same for all partitions.
    pub(super) fn forget_all(&self) {
        self.lock().partitions.values_mut().for_each(Partition::forget);
    }

    /// Partitions whose positions have to be read now. Whatever may still move them has come to its end.
    pub(super) fn adrift(&self) -> Vec<Place> {
        let now = Instant::now();
        let is_adrift =
            |partition: &Partition| partition.next.is_none() && partition.under_way == 0 && partition.not_before <= now;
        let state = self.lock();
        state.partitions.iter().filter(|(_, partition)| is_adrift(partition)).map(|(place, _)| place.clone()).collect()
    }

    /// A position was read. Gives whether reading goes on there: what was stopped stays so until it was set elsewhere.
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

    /// The partition is read from this position now, and was sought there or taken anew.
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

    /// It could not be found out where the partition stands, or it could not be read there. Gives how often in a row.
    pub(super) fn postpone(&self, place: &Place) -> u32 {
        let mut state = self.lock();
        state.partitions.get_mut(place).map_or(0, |partition| {
            partition.forget();
            partition.not_before = partition.not_before.max(Instant::now() + FIRST_PAUSE);
            partition.failures
        })
    }

    /// Do not read the partition until its position is set.
    pub(super) fn stop(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.stopped = true;
            partition.next = partition.next.or(Some(partition.committed));
        }
    }

    /// The same, and whatever position is found next, it was set: what the one so far belonged to is gone.
    pub(super) fn stop_until_found(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.stopped = true;
            partition.committed = -1;
            partition.next = Some(-1);
        }
    }

    /// The same as [`forget`](Self::forget) for all partitions of a topic.
    pub(super) fn forget_topic(&self, topic: &str) {
        let mut state = self.lock();
        let of_topic = state.partitions.iter_mut().filter(|(place, _)| *place.topic == *topic);
        of_topic.for_each(|(_, partition)| partition.forget());
    }

    /// Partitions that are read and have nothing under way, and where they stand.
    pub(super) fn settled(&self) -> Vec<(Place, Generation, i64)> {
        let state = self.lock();
        let is_settled = |partition: &Partition| {
            !partition.stopped && partition.under_way == 0 && partition.next == Some(partition.committed)
        };
        let settled = state.partitions.iter().filter(|(_, partition)| is_settled(partition));
        settled.map(|(place, partition)| (place.clone(), partition.generation, partition.committed)).collect()
    }

    /// Whether how far librdkafka has come in a partition can be believed.
    pub(super) fn is_sought(&self, place: &Place) -> bool {
        self.lock().partitions.get(place).is_some_and(|partition| partition.sought)
    }

    /// A partition was sought where it stands.
    pub(super) fn sought(&self, place: &Place) {
        if let Some(partition) = self.lock().partitions.get_mut(place) {
            partition.sought = true;
        }
    }

    /// How far each is committed that Kafka was not told of. It counts as told.
    pub(super) fn untold(&self) -> Vec<(Place, i64)> {
        let mut state = self.lock();
        let untold = state.partitions.iter_mut().filter(|(_, partition)| partition.is_untold());
        untold
            .map(|(place, partition)| {
                partition.told = partition.committed;
                (place.clone(), partition.committed)
            })
            .collect()
    }

    /// How far a partition is committed.
    pub(super) fn committed(&self, place: &Place) -> Option<i64> {
        self.lock().partitions.get(place).map(|partition| partition.committed).filter(|committed| *committed >= 0)
    }

    /// Wait until nothing is under way, at most so long.
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
        self.committed >= 0 && self.committed != self.told
    }

    /// The first time it is read again at once, then later and later: somebody else may read it, too.
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
        let (generation, next) = assignment.open(&place).expect("it is read");
        assert_eq!(next, 5);
        assert_eq!(assignment.hand_over(&place, generation, 9, &[true; 4]), HandOver::Done);
        assert!(assignment.begin(&place, generation));
        assignment.forget(&place);
        assert!(!assignment.begin(&place, generation), "it was given up");
        assert_eq!(assignment.hand_over(&place, generation, 12, &[]), HandOver::Void);
        assert!(assignment.adrift().is_empty(), "something is still under way");
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
        assert!(!assignment.found(&place, 5), "nobody set it");
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
        assert!(!assignment.is_sought(&place), "an earlier place may still be remembered");
        assignment.sought(&place);
        assert!(assignment.is_sought(&place));
        assignment.resume(&place, 5, false);
        assert!(!assignment.is_sought(&place));
    }

    #[test]
    fn what_is_committed_is_told_once() {
        let (assignment, place) = assigned(0);
        let (generation, _) = assignment.open(&place).expect("it is read");
        assert!(assignment.begin(&place, generation));
        assignment.settle(&place, generation, Some(3));
        assert_eq!(assignment.untold(), [(place.clone(), 3)]);
        assert!(assignment.untold().is_empty());
        assert!(assignment.remove(&[place], Duration::ZERO).is_empty());
    }
}
