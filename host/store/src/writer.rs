use std::time::{Duration, Instant};

use belfry_model::sabotaged;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{timeout, timeout_at};

use crate::clock::now_ms;
use crate::{Batch, BatchChain, BatchReceipt, Receipt, Store, StoreError, crash_point, unstorable};

/// Settings for gathering batches into groups.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// Number of log entries at which a group is closed.
    pub group_entries: usize,
    /// How long a busy writer waits for a group to become as large as the last one. An idle writer never waits.
    pub group_wait: Duration,
    /// Maximum number of queued requests.
    pub queue: usize,
}

/// The writer has stopped; nothing more is committed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer has stopped")]
pub struct WriterGone;

/// Size in bytes at which a group is closed, regardless of its number of entries.
const GROUP_BYTES: usize = 16 << 20;
/// Interval at which an idle writer checks whether it could write.
const LOOK: Duration = Duration::from_secs(2);

/// A handle to the writer, which appends events to the log. Cheap to clone; the writer stops when the last clone is
/// dropped and everything is committed.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    committed: watch::Receiver<i64>,
    failure: watch::Receiver<Option<String>>,
}

struct Request {
    batch: Batch,
    run: BatchChain,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<BatchReceipt, StoreError>>;

/// A pending receipt.
pub type PendingReceipt = oneshot::Receiver<Result<BatchReceipt, StoreError>>;

impl Writer {
    /// Starts the writer. After each commit it raises `log_end`, which wakes all readers of the log.
    pub fn start(store: Store, settings: WriterSettings, log_end: watch::Sender<i64>) -> Self {
        let (requests, received) = mpsc::channel(settings.queue);
        let committed = watch::Sender::new(*log_end.borrow());
        let failure = watch::Sender::new(None);
        let writer = Self { requests, committed: committed.subscribe(), failure: failure.subscribe() };
        tokio::spawn(GroupCommit { store, settings, received, log_end, committed, failure, last_entries: 0 }.run());
        writer
    }

    /// Returns a watch on the reason why nothing can be committed at the moment; `None` if commits succeed.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Returns a watch on the highest position that this writer has committed.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.committed.clone()
    }

    /// Submits a batch. Batches are committed in the order of submission. Waits while the queue is full.
    pub async fn submit(&self, batch: Batch) -> Result<PendingReceipt, WriterGone> {
        self.submit_behind(&BatchChain::default(), batch).await
    }

    /// Submits a batch that belongs to a run: it is not committed if an earlier batch of the run was not.
    pub async fn submit_behind(&self, run: &BatchChain, batch: Batch) -> Result<PendingReceipt, WriterGone> {
        let (answer, receipt) = oneshot::channel();
        self.requests.send(Request { batch, run: run.clone(), answer }).await.map_err(|_| WriterGone)?;
        Ok(receipt)
    }
}

/// The writer's task.
struct GroupCommit {
    store: Store,
    settings: WriterSettings,
    received: mpsc::Receiver<Request>,
    log_end: watch::Sender<i64>,
    committed: watch::Sender<i64>,
    failure: watch::Sender<Option<String>>,
    last_entries: usize,
}

impl GroupCommit {
    async fn run(mut self) {
        loop {
            match timeout(LOOK, self.received.recv()).await {
                Ok(Some(first)) => {
                    let requests = self.gather(first).await;
                    self.commit(requests).await;
                }
                Ok(None) => return,
                Err(_) => self.look().await,
            }
        }
    }

    /// A replica that is not ready receives no events, so no commit would show that it has recovered: the writer tries
    /// one itself.
    async fn look(&self) {
        let failing = self.failure.borrow().is_some();
        let found = if failing { self.store.try_to_write().await } else { self.store.check_file() };
        self.note(found.as_ref().err());
    }

    fn note(&self, failure: Option<&StoreError>) {
        let failure = failure.map(ToString::to_string);
        self.failure.send_if_modified(|known| {
            let news = known.is_some() != failure.is_some();
            if news {
                match &failure {
                    Some(error) => tracing::error!(error, "nothing can be committed"),
                    None => tracing::info!("events can be committed again"),
                }
            }
            *known = failure;
            news
        });
    }

    /// Gathers the queued requests into a group. Under load, the size of the previous group predicts how much is about
    /// to arrive.
    async fn gather(&mut self, first: Request) -> Vec<Request> {
        let (mut entries, mut bytes) = (first.batch.entries(), first.batch.bytes());
        let expected = self.last_entries.min(self.settings.group_entries);
        let until = tokio::time::Instant::now() + self.settings.group_wait;
        let mut requests = vec![first];
        while entries < self.settings.group_entries && bytes < GROUP_BYTES {
            let next = match self.received.try_recv() {
                Ok(next) => next,
                Err(_) if entries >= expected => break,
                Err(_) => match timeout_at(until, self.received.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            entries += next.batch.entries();
            bytes += next.batch.bytes();
            requests.push(next);
        }
        // A group of an idle writer has one request, so an idle writer never expects more to arrive.
        self.last_entries = if requests.len() > 1 { entries } else { 0 };
        requests
    }

    async fn commit(&self, requests: Vec<Request>) {
        let (mut batches, mut runs, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for Request { batch, run, answer } in requests {
            if run.is_broken() {
                refuse(&run, answer, behind_a_failure());
                continue;
            }
            batches.push(batch);
            runs.push(run);
            answers.push(answer);
        }
        if batches.is_empty() {
            return;
        }
        let entries: usize = batches.iter().map(Batch::entries).sum();
        let began = Instant::now();
        let result = self.store.commit(&batches, now_ms()).await;
        metrics::histogram!("belfry_commit_seconds").record(began.elapsed());
        metrics::histogram!("belfry_writer_group_entries").record(entries as f64);
        crash_point!("commit.after-commit");
        match result {
            Ok(receipts) => {
                self.note(None);
                self.answer(receipts, answers);
            }
            Err(error) if error.is_refusal() && !sabotaged("unstorable") => {
                tracing::warn!(%error, batches = batches.len(), "a group was refused; committing its batches one by one");
                for ((batch, run), answer) in batches.into_iter().zip(runs).zip(answers) {
                    self.commit_apart(batch, &run, answer).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, batches = batches.len(), "a group was not committed");
                self.note(Some(&error));
                for (run, answer) in runs.iter().zip(answers) {
                    refuse(run, answer, error.clone());
                }
            }
        }
    }

    /// Commits a batch of a group that was refused.
    async fn commit_apart(&self, batch: Batch, run: &BatchChain, answer: Answer) {
        if run.is_broken() {
            return refuse(run, answer, behind_a_failure());
        }
        match unstorable::commit_apart(&self.store, batch, now_ms()).await {
            Ok(receipt) => self.answer(vec![receipt], vec![answer]),
            Err(error) => {
                tracing::error!(%error, "a batch was not committed");
                refuse(run, answer, error);
            }
        }
    }

    /// Wakes the readers, then answers, so that a sender with a receipt finds its entry.
    fn answer(&self, receipts: Vec<BatchReceipt>, answers: Vec<Answer>) {
        if let Some(position) = receipts.iter().filter_map(highest_position).max() {
            self.log_end.send_if_modified(|end| {
                let higher = position > *end;
                *end = position.max(*end);
                higher
            });
            self.committed.send_replace(position);
        }
        crash_point!("commit.after-wake");
        for (receipt, answer) in receipts.into_iter().zip(answers) {
            let _ = answer.send(Ok(receipt));
        }
    }
}

fn refuse(run: &BatchChain, answer: Answer, error: StoreError) {
    run.break_off();
    // A sender that is gone will submit the batch again.
    let _ = answer.send(Err(error));
}

fn behind_a_failure() -> StoreError {
    StoreError::Failed("an earlier batch of the same sender was not committed".into())
}

fn highest_position(receipt: &BatchReceipt) -> Option<i64> {
    let BatchReceipt::Committed(receipts) = receipt else { return None };
    receipts.iter().filter_map(highest_of).max()
}

fn highest_of(receipt: &Receipt) -> Option<i64> {
    match receipt {
        Receipt::Accepted { position, notifications, .. } => notifications
            .iter()
            .filter_map(|notification| notification.as_ref().ok().copied())
            .max()
            .or(Some(*position)),
        Receipt::Duplicate | Receipt::Conflict | Receipt::Unstorable(_) => None,
    }
}
