//! One consumer with its thread and its committer, from subscription to shutdown.

use std::sync::Arc;

use rdkafka::error::KafkaResult;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::assignment::Assignment;
use super::callbacks::{Callbacks, Consuming};
use super::committer::Committer;
use super::followed_group::FollowedGroup;
use super::partition_batch::ROOM_BYTES;
use super::positions::Positions;
use super::reader::Reader;
use super::recent_records::RecentRecords;
use super::record::RecordSettings;
use super::stopped_partitions::Stopped;
use crate::backoff::Backoff;
use crate::pipeline::Pipeline;
use crate::task::named;

/// Maximum number of runs that wait for the committer.
const QUEUE: usize = 4;

/// The parts and settings of a session.
pub(super) struct SessionSettings {
    pub(super) pipeline: Pipeline,
    pub(super) positions: Arc<Positions>,
    pub(super) stopped: Stopped,
    /// Another group that is followed.
    pub(super) behind: Option<String>,
    /// The replica's name, if it has one.
    pub(super) instance: Option<String>,
    pub(super) records: RecordSettings,
    pub(super) backoff: Backoff,
}

/// A running consumer.
pub(super) struct Session {
    topics: watch::Sender<Vec<String>>,
    /// Stops the reader and the committer, also if the session is dropped.
    stop: DropGuard,
    assignment: Arc<Assignment>,
    repeats: Arc<RecentRecords>,
    /// `None` once the reader has failed.
    ended: Option<oneshot::Receiver<KafkaResult<()>>>,
    committing: JoinHandle<()>,
}

impl Session {
    /// Starts to read these topics.
    pub(super) fn start(settings: &SessionSettings, topics: Vec<String>) -> KafkaResult<Self> {
        let SessionSettings { pipeline, positions, stopped, behind, instance, records, backoff } = settings;
        let (assignment, repeats) = (Arc::<Assignment>::default(), Arc::<RecentRecords>::default());
        let callbacks =
            Callbacks { assignment: assignment.clone(), positions: positions.clone(), stopped: stopped.clone() };
        let config = positions.client.consumer(&positions.group, instance.as_deref());
        let consumer: Consuming = config.create_with_context(callbacks)?;
        let lead = behind.as_ref().map(|group| FollowedGroup::new(&positions.client, group)).transpose()?;
        let (topics, follow) = watch::channel(topics);
        let stopping = CancellationToken::new();
        let (jobs, received) = mpsc::channel(QUEUE);
        let committer = Committer {
            pipeline: pipeline.clone(),
            assignment: assignment.clone(),
            repeats: repeats.clone(),
            backoff: backoff.clone(),
            stopping: stopping.clone(),
            bytes: 0,
        };
        let reader = Reader {
            consumer,
            assignment: assignment.clone(),
            positions: positions.clone(),
            lead,
            repeats: repeats.clone(),
            stopped: stopped.clone(),
            jobs,
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            topics: follow,
            stopping: stopping.clone(),
            runtime: Handle::current(),
            records: records.clone(),
        };
        let committing = tokio::spawn(named("source.kafka", committer.run(received)));
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("kafka-source".into())
            .spawn(move || {
                // The receiver is gone after a stop that was aborted.
                let _ = end.send(reader.run());
            })
            .map_err(|error| rdkafka::error::KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { topics, stop: stopping.drop_guard(), assignment, repeats, ended: Some(ended), committing })
    }

    /// Reads these topics from now on.
    pub(super) fn follow(&self, topics: Vec<String>) {
        self.topics.send_if_modified(|before| {
            let changed = *before != topics;
            *before = topics;
            changed
        });
    }

    /// Discards all positions, so that they are read from the database again.
    pub(super) fn forget(&self) {
        self.repeats.forget();
        self.assignment.forget_all();
    }

    /// Discards the positions of a topic's partitions, because the topic was recreated.
    pub(super) fn forget_topic(&self, topic: &str) {
        self.assignment.forget_topic(topic);
    }

    /// Waits until the consumer fails. Returns the reason.
    pub(super) async fn failed(&mut self) -> String {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        let summary = match ended.await {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) | Err(_) => "its thread has ended".into(),
        };
        self.ended = None;
        summary
    }

    /// Stops reading, and waits until the runs already handed over are committed.
    pub(super) async fn end(self) {
        let Self { stop, committing, ended, .. } = self;
        drop(stop);
        let _ = committing.await;
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}
