//! The thread that polls the consumer. It waits for one record, takes those that are already available after it, and hands
//! all of them to the committer by partition.

mod markers;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use markers::Idle;
use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::assignment::{Assignment, HandOver};
use super::callbacks::{Consuming, commit_offsets};
use super::followed_group::FollowedGroup;
use super::partition_batch::{Job, PartitionBatch};
use super::positions::Positions;
use super::recent_records::RecentRecords;
use super::record::{Record, RecordSettings};
use super::stopped_partitions::{Stopped, Unreadable};
use super::topic_partition::Place;

/// How long a poll waits for a first record. Stops and requests wait for no longer than this.
const POLL: Duration = Duration::from_millis(100);
/// Maximum number of records, and of bytes, that are read together.
const RECORDS: usize = 250;
const BYTES: usize = 4 << 20;
/// How long the committer may be behind before partitions are paused. Pausing discards the records already fetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// The interval between offset commits to Kafka.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The shortest interval at which the same complaint is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);
/// How long a stop waits for runs in flight.
const DRAIN: Duration = Duration::from_secs(8);

/// Reads on a dedicated thread.
pub(super) struct Reader {
    pub(super) consumer: Consuming,
    pub(super) assignment: Arc<Assignment>,
    pub(super) positions: Arc<Positions>,
    /// Another group that is followed: records that it has not processed are not read.
    pub(super) lead: Option<FollowedGroup>,
    pub(super) repeats: Arc<RecentRecords>,
    pub(super) stopped: Stopped,
    pub(super) jobs: mpsc::Sender<Job>,
    /// A permit for each byte of events between here and their commit.
    pub(super) room: Arc<Semaphore>,
    pub(super) topics: watch::Receiver<Vec<String>>,
    pub(super) stopping: CancellationToken,
    pub(super) runtime: Handle,
    pub(super) records: RecordSettings,
}

/// State that the loop keeps from one iteration to the next.
#[derive(Default)]
pub(super) struct Turn {
    /// Runs that could not be handed over yet.
    pub(super) waiting: VecDeque<Job>,
    full_since: Option<Instant>,
    pub(super) paused: bool,
    told_at: Option<Instant>,
    complaints: HashMap<String, Instant>,
    idle: Idle,
}

impl Reader {
    /// Reads until the source stops. Fails if only a new consumer can continue.
    pub(super) fn run(mut self) -> KafkaResult<()> {
        let mut turn = Turn::default();
        self.topics.mark_changed();
        while !self.stopping.is_cancelled() {
            if self.jobs.is_closed() {
                // The committer is gone, which is always a bug in Belfry.
                return Err(KafkaError::Canceled);
            }
            self.follow_topics()?;
            self.follow_lead(&mut turn);
            self.find_adrift(&mut turn);
            self.tell_kafka(&mut turn);
            self.pass_markers(&mut turn);
            if self.hand_over(&mut turn) {
                self.read(&mut turn)?;
            } else {
                self.hold_back(&mut turn)?;
            }
        }
        self.finish(turn)
    }

    /// Waits until the committer has committed its runs, and hands it nothing more. The next owner of the partitions reads
    /// the rest.
    fn finish(self, mut turn: Turn) -> KafkaResult<()> {
        turn.waiting.clear();
        self.assignment.wait_until_settled(DRAIN / 2);
        self.pass_last_markers(&mut turn);
        self.hand_over(&mut turn);
        let Self { consumer, assignment, jobs, .. } = self;
        drop(jobs);
        assignment.wait_until_settled(DRAIN / 2);
        commit_offsets(&consumer, assignment.untold());
        // Leaves the group, unless the replica has a name: then its partitions wait for its return.
        drop(consumer);
        Ok(())
    }

    fn follow_topics(&mut self) -> KafkaResult<()> {
        if !self.topics.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let topics = self.topics.borrow_and_update().clone();
        if topics.is_empty() {
            self.consumer.unsubscribe();
            return Ok(());
        }
        tracing::info!(?topics, "reading");
        self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Waits for a record, takes those that are already available after it, and prepares them for the committer.
    fn read(&mut self, turn: &mut Turn) -> KafkaResult<()> {
        let mut gathered: Vec<PartitionBatch> = Vec::new();
        // For each partition, the first offset that the group ahead has not processed. It is read later.
        let mut ahead: Vec<(Place, i64)> = Vec::new();
        let (mut records, mut bytes, mut wait) = (0, 0, POLL);
        while records < RECORDS && bytes < BYTES {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    self.take(&message, &mut gathered, &mut ahead);
                }
                Some(Err(error)) => self.complain(error, turn)?,
                None => break,
            }
            records += 1;
            wait = Duration::ZERO;
        }
        for run in gathered {
            match self.assignment.hand_over(&run.place, run.generation, run.next, &run.decoded) {
                HandOver::Void => continue,
                HandOver::Done => {}
                HandOver::Stopped => {
                    let stopped = Unreadable::NotJson { place: run.place.clone(), position: run.next };
                    self.stop(&run.place, stopped.to_string());
                }
            }
            turn.waiting.push_back(run.into_job(&self.positions.group));
        }
        self.wait_for_lead(ahead);
        Ok(())
    }

    fn take(&self, message: &BorrowedMessage<'_>, gathered: &mut Vec<PartitionBatch>, ahead: &mut Vec<(Place, i64)>) {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        if let Some(lead) = &self.lead {
            let place = Place::new(topic, partition);
            if ahead.iter().any(|(waiting, _)| *waiting == place) {
                return;
            }
            if self.assignment.open(&place).is_some_and(|(_, next)| offset >= next) && !lead.is_past(&place, offset) {
                ahead.push((place, offset));
                return;
            }
        }
        let of_it = |run: &PartitionBatch| run.place.partition == partition && *run.place.topic == *topic;
        let run = match gathered.iter().position(of_it) {
            Some(run) => run,
            None => {
                let place = Place::new(topic, partition);
                let Some((generation, next)) = self.assignment.open(&place) else { return };
                gathered.push(PartitionBatch::new(place, generation, next));
                gathered.len() - 1
            }
        };
        if offset >= gathered[run].next {
            let record = Record::read(message, &self.repeats, &self.records);
            gathered[run].add(offset, message.payload_len(), record);
        }
    }

    /// Hands the queued runs to the committer. Returns whether it accepted all of them.
    fn hand_over(&self, turn: &mut Turn) -> bool {
        while let Some(job) = turn.waiting.pop_front() {
            let room = self.room.clone().try_acquire_many_owned(job.room());
            let (Ok(slot), Ok(room)) = (self.jobs.try_reserve(), room) else {
                turn.waiting.push_front(job);
                return false;
            };
            if self.assignment.begin(&job.place, job.generation) {
                slot.send(Job { held: Some(room), ..job });
            }
        }
        turn.full_since = None;
        if turn.paused {
            turn.paused = false;
            self.report("resume", self.consumer.resume(&list(&self.assignment.running())));
        }
        true
    }

    /// Waits for the committer, which is behind. If that takes too long, pauses the partitions and continues to poll,
    /// because otherwise the group would remove this consumer.
    fn hold_back(&self, turn: &mut Turn) -> KafkaResult<()> {
        let needed = turn.waiting.front().map_or(0, Job::room);
        let both = async { (self.jobs.reserve().await.is_ok(), self.room.acquire_many(needed).await.is_ok()) };
        let room = self.runtime.block_on(async { timeout(POLL, both).await.is_ok() });
        let since = *turn.full_since.get_or_insert_with(Instant::now);
        if room || since.elapsed() < PAUSE_AFTER {
            return Ok(());
        }
        if !turn.paused {
            turn.paused = true;
            self.report("pause", self.consumer.pause(&list(&self.assignment.places())));
        }
        match self.consumer.poll(Duration::ZERO) {
            // The record is of a partition that was just assigned. It is read later, from the partition's position.
            Some(Ok(message)) => self.assignment.forget(&Place::new(message.topic(), message.partition())),
            Some(Err(error)) => self.complain(error, turn)?,
            None => {}
        }
        Ok(())
    }

    fn tell_kafka(&self, turn: &mut Turn) {
        if turn.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY) {
            turn.told_at = Some(Instant::now());
            commit_offsets(&self.consumer, self.assignment.untold());
        }
    }

    /// Handles an error of the consumer. Most errors are waited out.
    fn complain(&self, error: KafkaError, turn: &mut Turn) -> KafkaResult<()> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => return Err(error),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => self.check_ranges(),
            error => self.say(turn, format!("kafka: {error}")),
        }
        Ok(())
    }

    /// Logs a complaint, unless it was logged a moment ago.
    pub(super) fn say(&self, turn: &mut Turn, complaint: String) {
        turn.complaints.retain(|_, said_at| said_at.elapsed() < COMPLAIN_EVERY);
        if let Entry::Vacant(new) = turn.complaints.entry(complaint) {
            tracing::warn!(complaint = new.key(), "the source cannot read; retrying");
            new.insert(Instant::now());
        }
    }

    pub(super) fn report(&self, what: &'static str, done: KafkaResult<()>) {
        if let Err(error) = done {
            tracing::warn!(what, %error, "the consumer rejects the call");
        }
    }
}

pub(super) fn list(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}
