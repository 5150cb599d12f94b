use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use crate::{Receipt, Store, StoreError, Submission};

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
    submissions: Vec<Submission>,
    answer: oneshot::Sender<Result<Vec<Receipt>, StoreError>>,
}

impl Request {
    fn entries(&self) -> usize {
        self.submissions.iter().map(Submission::entries).sum()
    }
}

/// Receipts to come.
pub type PendingReceipts = oneshot::Receiver<Result<Vec<Receipt>, StoreError>>;

impl Writer {
    /// Start the writer. `position` is the highest in the log.
    pub fn start(store: Store, settings: WriterSettings, position: i64) -> Self {
        let (requests, received) = mpsc::channel(settings.queue);
        let (wake, committed) = watch::channel(position);
        tokio::spawn(Group { store, settings, received, wake, last_entries: 0 }.run());
        Self { requests, committed }
    }

    /// Hand over submissions that stay together in the log, in this order. Waits while the queue is full.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<PendingReceipts, WriterGone> {
        let (answer, receipts) = oneshot::channel();
        self.requests.send(Request { submissions, answer }).await.map_err(|_| WriterGone)?;
        Ok(receipts)
    }

    /// Tells the highest committed position, after each commit: the wake of everybody who reads the log.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.committed.clone()
    }
}

/// The writer's task.
struct Group {
    store: Store,
    settings: WriterSettings,
    received: mpsc::Receiver<Request>,
    wake: watch::Sender<i64>,
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
        let mut entries = first.entries();
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
            entries += next.entries();
            requests.push(next);
        }
        // An idle writer's groups have one request, so it never expects more than came.
        self.last_entries = if requests.len() > 1 { entries } else { 0 };
        requests
    }

    async fn commit(&self, requests: Vec<Request>) {
        let sizes: Vec<usize> = requests.iter().map(|request| request.submissions.len()).collect();
        let (submissions, answers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.submissions, request.answer)).unzip();
        let group: Vec<Submission> = submissions.into_iter().flatten().collect();
        let began = Instant::now();
        let result = self.store.commit(&group, now_ms()).await;
        metrics::histogram!("belfry_commit_seconds").record(began.elapsed());
        metrics::histogram!("belfry_writer_group_entries")
            .record(group.iter().map(Submission::entries).sum::<usize>() as f64);
        match result {
            Ok(receipts) => self.answer(receipts, &sizes, answers),
            Err(error) => {
                tracing::error!(%error, submissions = group.len(), "a group was not committed; its senders are told");
                for answer in answers {
                    // A sender that is gone will ask again.
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Wake the readers, then answer: whoever has a receipt finds the entry.
    fn answer(
        &self,
        receipts: Vec<Receipt>,
        sizes: &[usize],
        answers: Vec<oneshot::Sender<Result<Vec<Receipt>, StoreError>>>,
    ) {
        if let Some(position) = receipts.iter().filter_map(highest_position).max() {
            self.wake.send_replace(position);
        }
        let mut receipts = receipts.into_iter();
        for (size, answer) in sizes.iter().zip(answers) {
            let _ = answer.send(Ok(receipts.by_ref().take(*size).collect()));
        }
    }
}

fn highest_position(receipt: &Receipt) -> Option<i64> {
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
