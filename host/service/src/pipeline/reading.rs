//! Taking what was read from a source: all of it belongs to one run, yet never more of it is in memory than this host can
//! bear, whatever the rules answer. Events are projected some at a time; what came of them goes to the writer in batches
//! that are bounded in bytes; and a run that has too much with the writer waits for it.
//!
//! Each batch takes the source's position as far as it reaches, so that one that was not committed fences those behind it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use belfry_store::{Advance, Batch, BatchReceipt, PendingReceipt, Receipt, Run, Submission, Unreadable, WriterGone};
use futures_util::FutureExt;

use super::project::LOT;
use super::{Fate, InFlight, NotTaken, Pipeline, Sorted, Summary, Taken};
use crate::ingest::Incoming;

/// What is committed at once, in bytes of events and of what follows from them. An event and that stay together.
const BATCH_BYTES: usize = 4 << 20;
/// What is with the writer and not committed yet. No more is begun beyond that.
pub(crate) const UNCOMMITTED_BYTES: usize = 16 << 20;

/// A run of records from one partition of a source.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Those that are events, in order.
    pub events: Vec<Incoming>,
    /// Those that are not.
    pub unreadable: Vec<Unreadable>,
    /// How far the partition has been read with them.
    pub advance: Option<Advance>,
}

impl Reading {
    /// Whether the content of some of its events is their identity.
    pub(crate) fn is_known_by_content(&self) -> bool {
        self.events.iter().any(|event| !event.aliases.is_empty())
    }
}

impl Pipeline {
    /// As [`begin`](Self::begin) for what was read from a source: it is committed together with the source's position, or
    /// not at all.
    pub async fn begin_reading(&self, reading: Reading) -> Result<InFlight, NotTaken> {
        let Reading { events, unreadable, advance } = reading;
        let Sorted { mut fates, new, conflicts } = self.sort(events).await?;
        let mut run = HandOver::new(self, unreadable, advance);
        run.unreadable.extend(conflicts);
        // Where the fates are of those that are projected.
        let mut places =
            (0..fates.len()).filter(|place| matches!(fates[*place], Fate::Submitted)).collect::<VecDeque<_>>();
        let mut new = new.into_iter().peekable();
        while new.peek().is_some() {
            let slice: Vec<Incoming> = new.by_ref().take(slice()).collect();
            for made in self.project_apart(slice).await? {
                let place = places.pop_front();
                match made {
                    Made::Submission(submission, summary) => run.add(*submission, summary).await?,
                    Made::Failed(event) => {
                        if let Some(place) = place {
                            fates[place] = Fate::Known(Taken::Failed);
                        }
                        let fault =
                            |origin| Unreadable::fault(origin, Some(event.envelope.event_id), event.payload.clone());
                        run.unreadable.extend(event.arrival.origin().map(fault));
                    }
                }
            }
        }
        run.finish(fates).await
    }

    /// Project events. One on which the host itself fails costs only itself.
    pub(super) async fn project_apart(&self, events: Vec<Incoming>) -> Result<Vec<Made>, NotTaken> {
        let together = AssertUnwindSafe(self.project_new(events.clone())).catch_unwind().await;
        if let Ok(made) = together {
            return Ok(made?.into_iter().map(Made::of).collect());
        }
        let mut apart = Vec::with_capacity(events.len());
        for event in events {
            match AssertUnwindSafe(self.project_new(vec![event.clone()])).catch_unwind().await {
                Ok(made) => apart.extend(made?.into_iter().map(Made::of)),
                Err(_) => {
                    tracing::error!(event_id = %event.envelope.event_id, "belfry failed on an event, and not on those beside it");
                    apart.push(Made::Failed(event));
                }
            }
        }
        Ok(apart)
    }
}

/// What came of an event that is new.
pub(super) enum Made {
    Submission(Box<Submission>, Summary),
    /// The host itself failed on it.
    Failed(Incoming),
}

impl Made {
    fn of((submission, summary): (Submission, Summary)) -> Self {
        Self::Submission(Box::new(submission), summary)
    }
}

/// Events that are projected at once: as many as all threads take, each one lot. What they answer is in memory together.
fn slice() -> usize {
    static SLICE: OnceLock<usize> = OnceLock::new();
    *SLICE.get_or_init(|| LOT * available_parallelism().map_or(2, usize::from).max(2))
}

/// A run on its way to the writer.
struct HandOver<'a> {
    pipeline: &'a Pipeline,
    run: Run,
    unreadable: Vec<Unreadable>,
    advance: Option<Advance>,
    /// What goes with the next batch.
    submissions: Vec<Submission>,
    bytes: usize,
    summaries: Vec<Summary>,
    settled: Vec<Receipt>,
    pending: VecDeque<(usize, PendingReceipt)>,
}

impl<'a> HandOver<'a> {
    fn new(pipeline: &'a Pipeline, unreadable: Vec<Unreadable>, advance: Option<Advance>) -> Self {
        Self {
            pipeline,
            run: Run::default(),
            unreadable,
            advance,
            submissions: Vec::new(),
            bytes: 0,
            summaries: Vec::new(),
            settled: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    async fn add(&mut self, submission: Submission, summary: Summary) -> Result<(), NotTaken> {
        let bytes = submission.bytes();
        if self.bytes + bytes > BATCH_BYTES {
            self.cut().await?;
        }
        self.bytes += bytes;
        self.submissions.push(submission);
        self.summaries.push(summary);
        Ok(())
    }

    /// Hand over what there is, and take the position along as far as that reaches.
    async fn cut(&mut self) -> Result<(), NotTaken> {
        let last = self.submissions.last().and_then(|submission| submission.origin.as_ref());
        let Some(next) = last.map(|origin| origin.offset + 1) else { return Ok(()) };
        let (before, after) = std::mem::take(&mut self.unreadable).into_iter().partition(|one| one.offset < next);
        self.unreadable = after;
        let advance = self.advance.as_mut().map(|advance| {
            let step = Advance { next, ..advance.clone() };
            advance.expected = next;
            step
        });
        self.submit(before, advance).await
    }

    async fn submit(&mut self, unreadable: Vec<Unreadable>, advance: Option<Advance>) -> Result<(), NotTaken> {
        let (submissions, bytes) = (std::mem::take(&mut self.submissions), std::mem::take(&mut self.bytes));
        let batch = Batch { submissions, unreadable, advance };
        self.pending.push_back((bytes, self.pipeline.writer.submit_behind(&self.run, batch).await?));
        while self.uncommitted() > UNCOMMITTED_BYTES
            && let Some((_, receipt)) = self.pending.pop_front()
        {
            self.settled.extend(committed(receipt).await?);
        }
        Ok(())
    }

    fn uncommitted(&self) -> usize {
        self.pending.iter().map(|(bytes, _)| bytes).sum()
    }

    /// Hand over the rest.
    async fn finish(mut self, fates: Vec<Fate>) -> Result<InFlight, NotTaken> {
        let (unreadable, advance) = (std::mem::take(&mut self.unreadable), self.advance.take());
        self.submit(unreadable, advance).await?;
        let bytes = self.uncommitted();
        let Self { summaries, settled, pending, .. } = self;
        Ok(InFlight { fates, summaries, settled, receipts: pending.into_iter().map(|(_, one)| one).collect(), bytes })
    }
}

/// Wait until a batch is durable.
pub(super) async fn committed(receipt: PendingReceipt) -> Result<Vec<Receipt>, NotTaken> {
    match receipt.await.map_err(|_| WriterGone)?? {
        BatchReceipt::Committed(receipts) => Ok(receipts),
        BatchReceipt::Fenced => Err(NotTaken::Fenced),
    }
}
