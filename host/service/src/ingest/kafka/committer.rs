//! The task that passes the records read through the pipeline. Several runs are in flight at once, so that later ones are
//! projected while earlier ones are committed.

use std::pin::Pin;
use std::sync::Arc;

use belfry_store::UNSTORABLE;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::assignment::{Assignment, Generation};
use super::partition_batch::{Job, RunSummary};
use super::recent_records::RecentRecords;
use super::topic_partition::Place;
use crate::backoff::Backoff;
use crate::pipeline::{IngestError, IngestOutcome, Pipeline, UNCOMMITTED_BYTES};

/// Maximum number of runs that the committer has in flight.
const AHEAD: usize = 8;

/// How a run ended.
struct Ended {
    place: Place,
    generation: Generation,
    summary: RunSummary,
    /// Bytes of the run that the writer held.
    bytes: usize,
    /// The run's permits, which are released when this is dropped.
    held: Option<OwnedSemaphorePermit>,
    result: Result<Vec<IngestOutcome>, IngestError>,
}

type Ending = Pin<Box<dyn Future<Output = Ended> + Send>>;

pub(super) struct Committer {
    pub(super) pipeline: Pipeline,
    pub(super) assignment: Arc<Assignment>,
    pub(super) repeats: Arc<RecentRecords>,
    pub(super) backoff: Backoff,
    pub(super) stopping: CancellationToken,
    /// Bytes that the writer holds now.
    pub(super) bytes: usize,
}

impl Committer {
    /// Commits runs until the reader has no more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut under_way: FuturesOrdered<Ending> = FuturesOrdered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                biased;
                Some(ended) = under_way.next(), if !under_way.is_empty() => self.end(ended).await,
                job = jobs.recv(), if open && under_way.len() < AHEAD && self.bytes <= UNCOMMITTED_BYTES => match job {
                    Some(job) => {
                        // A repetition of content is detected only once the earlier event is committed.
                        while job.reading.is_known_by_content()
                            && let Some(ended) = under_way.next().await
                        {
                            self.end(ended).await;
                        }
                        under_way.extend(self.begin(job).await);
                    }
                    None => open = false,
                },
            }
        }
    }

    async fn begin(&mut self, job: Job) -> Option<Ending> {
        let Job { place, generation, reading, summary, held, .. } = job;
        if !self.assignment.is_current(&place, generation) {
            self.assignment.settle(&place, generation, None);
            return None;
        }
        match self.pipeline.begin_reading(reading).await {
            Ok(in_flight) => {
                let bytes = in_flight.bytes();
                self.bytes += bytes;
                Some(Box::pin(async move {
                    let result = in_flight.finish().await;
                    Ended { place, generation, summary, bytes, held, result }
                }))
            }
            Err(error) => {
                self.end(Ended { place, generation, summary, bytes: 0, held, result: Err(error) }).await;
                None
            }
        }
    }

    async fn end(&mut self, ended: Ended) {
        let Ended { place, generation, summary, bytes, held, result } = ended;
        drop(held);
        self.bytes -= bytes;
        match result {
            Ok(taken) => {
                self.backoff.reset();
                self.assignment.settle(&place, generation, Some(summary.next));
                self.count(&summary, &taken);
                let with_ids = summary.fingerprints.into_iter().zip(&taken);
                let committed =
                    with_ids.filter(|(_, taken)| !matches!(taken, IngestOutcome::Conflict | IngestOutcome::Failed));
                self.repeats.add(committed.filter_map(|(fingerprint, _)| fingerprint));
            }
            Err(error) => {
                // Runs handed over together fail together, and are reported once.
                let first = self.assignment.is_current(&place, generation);
                self.repeats.forget();
                match (&error, first) {
                    (_, false) => self.assignment.settle(&place, generation, None),
                    (IngestError::Fenced, true) => {
                        tracing::warn!(topic = %place.topic, partition = place.partition, %error, "reading a partition again");
                        self.assignment.forget(&place);
                        self.assignment.settle(&place, generation, None);
                    }
                    (_, true) => {
                        self.assignment.forget_all();
                        self.assignment.settle(&place, generation, None);
                        self.pause(&error).await;
                    }
                }
            }
        }
    }

    /// Waits for longer after each consecutive failure.
    async fn pause(&mut self, error: &IngestError) {
        let pause = self.backoff.after_failure();
        tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "nothing was committed; all partitions are read again from the database's positions");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    fn count(&self, summary: &RunSummary, taken: &[IngestOutcome]) {
        let (mut accepted, mut duplicate, mut conflict) = (0, summary.repeated, 0);
        let (mut unstorable, mut failed) = (0, 0);
        for taken in taken {
            match taken {
                IngestOutcome::Accepted(_) => accepted += 1,
                IngestOutcome::Duplicate => duplicate += 1,
                IngestOutcome::Conflict => conflict += 1,
                IngestOutcome::Unstorable(_) => unstorable += 1,
                // Events read from a topic are not published, so they are never unsendable.
                IngestOutcome::Unsendable(_) => {}
                IngestOutcome::Failed => failed += 1,
            }
        }
        metrics::counter!("kafka_duplicate_events_total").increment(duplicate);
        let numbers =
            [("accepted", accepted), ("duplicate", duplicate), ("conflict", conflict), (UNSTORABLE, unstorable)];
        for (outcome, number) in numbers {
            if number > 0 {
                events(outcome).increment(number);
            }
        }
        let conflicts = (0..conflict).map(|_| "conflict").chain((0..unstorable).map(|_| UNSTORABLE));
        let undecodable = (0..failed).map(|_| belfry_model::Outcome::Undecodable.as_str());
        let letters = summary.causes.iter().copied().chain(undecodable).inspect(|cause| events(cause).increment(1));
        for cause in letters.chain(conflicts) {
            // No projector saw it.
            metrics::counter!("belfry_dead_letters_total", "projector" => "", "cause" => cause).increment(1);
        }
    }
}

fn events(outcome: &'static str) -> metrics::Counter {
    metrics::counter!("belfry_events_total", "source" => "kafka", "outcome" => outcome)
}
