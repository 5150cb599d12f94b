use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use crate::{Batch, BatchReceipt, Receipt, Run, Store, StoreError, crash_point};

/// How the writer gathers groups.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// A group is closed when it has this many log entries.
    pub group_entries: usize,
    /// How long a busy writer waits for a group to become as large as the last. An idle one never waits.
    pub group_wait: Duration,
    /// How many requests may wait.
    pub queue: usize,
}

/// The writer has stopped; nothing more is committed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer has stopped")]
pub struct WriterGone;

/// The one who appends to the log. Cheap to clone; it stops when the last clone is dropped and all is committed.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    committed: watch::Receiver<i64>,
}

struct Request {
    batch: Batch,
    run: Run,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<BatchReceipt, StoreError>>;

/// A receipt to come.
pub type PendingReceipt = oneshot::Receiver<Result<BatchReceipt, StoreError>>;

impl Writer {
    /// Start the writer. It raises `log_end` after each commit: the wake of everybody who reads the log.
    pub fn start(store: Store, settings: WriterSettings, log_end: watch::Sender<i64>) -> Self {
        let (requests, received) = mpsc::channel(settings.queue);
        let committed = watch::Sender::new(*log_end.borrow());
        let writer = Self { requests, committed: committed.subscribe() };
        tokio::spawn(Group { store, settings, received, log_end, committed, last_entries: 0 }.run());
        writer
    }

    /// The highest position that this writer has committed.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.committed.clone()
    }

    /// Hand over a batch. Batches are committed in the order in which they are handed over. Waits while the queue is
    /// full.
    pub async fn submit(&self, batch: Batch) -> Result<PendingReceipt, WriterGone> {
        self.submit_behind(&Run::default(), batch).await
    }

    /// The same behind the batches of a run: it is not committed if one of them was not.
    pub async fn submit_behind(&self, run: &Run, batch: Batch) -> Result<PendingReceipt, WriterGone> {
        let (answer, receipt) = oneshot::channel();
        self.requests.send(Request { batch, run: run.clone(), answer }).await.map_err(|_| WriterGone)?;
        Ok(receipt)
    }
}

/// The writer's task.
struct Group {
    store: Store,
    settings: WriterSettings,
    received: mpsc::Receiver<Request>,
    log_end: watch::Sender<i64>,
    committed: watch::Sender<i64>,
    last_entries: usize,
}

impl Group {
    async fn run(mut self) {
        while let Some(first) = self.received.recv().await {
            let requests = self.gather(first).await;
            self.commit(requests).await;
        }
    }

    /// Take what is waiting. Under load the group before says how much is about to come.
    async fn gather(&mut self, first: Request) -> Vec<Request> {
        let mut entries = first.batch.entries();
        let expected = self.last_entries.min(self.settings.group_entries);
        let until = tokio::time::Instant::now() + self.settings.group_wait;
        let mut requests = vec![first];
        while entries < self.settings.group_entries {
            let next = match self.received.try_recv() {
                Ok(next) => next,
                Err(_) if entries >= expected => break,
                Err(_) => match timeout_at(until, self.received.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            entries += next.batch.entries();
            requests.push(next);
        }
        // An idle writer's groups have one request, so it never expects more than came.
        self.last_entries = if requests.len() > 1 { entries } else { 0 };
        requests
    }

    async fn commit(&self, requests: Vec<Request>) {
        let (mut batches, mut runs, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for Request { batch, run, answer } in requests {
            if run.is_broken() {
                let _ = answer.send(Err(StoreError("what stands before it was not committed".into())));
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
        let committing = async {
            crash_point!("commit.begin");
            self.store.commit(&batches, now_ms()).await
        };
        // A fault of ours costs this group; the writer goes on.
        let result = AssertUnwindSafe(committing).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(StoreError("belfry itself failed at the commit".into())));
        metrics::histogram!("belfry_commit_seconds").record(began.elapsed());
        metrics::histogram!("belfry_writer_group_entries").record(entries as f64);
        crash_point!("commit.after-commit");
        match result {
            Ok(receipts) => self.answer(receipts, answers),
            Err(error) => {
                tracing::error!(%error, batches = batches.len(), "a group was not committed; its senders are told");
                runs.iter().for_each(Run::break_off);
                for answer in answers {
                    // A sender that is gone will ask again.
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Wake the readers, then answer: whoever has a receipt finds the entry.
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
        Receipt::Duplicate | Receipt::Conflict => None,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
