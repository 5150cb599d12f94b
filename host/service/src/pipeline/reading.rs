//! Accepts the records read from a source. All of them belong to one run, but the memory that they take is bounded,
//! whatever the rules answer: events are projected in slices, the results go to the writer in batches of bounded size, and
//! a run with too many uncommitted bytes waits for the writer.
//!
//! Each batch advances the source's position as far as the batch reaches, so that a batch that was not committed fences
//! those after it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use belfry_store::{
    Advance, Batch, BatchChain, BatchReceipt, PendingReceipt, Receipt, Submission, Unreadable, WriterGone,
};
use futures_util::FutureExt;

use super::project::LOT;
use super::{EventState, InFlight, IngestError, IngestOutcome, Pipeline, Sorted, Summary};
use crate::incoming::Incoming;

/// Limit on a batch, in bytes of events and of everything that follows from them. An event and what follows from it stay
/// together.
const BATCH_BYTES: usize = 4 << 20;
/// Limit on the bytes that were handed to the writer and are not committed yet. Beyond it, nothing new is begun.
pub(crate) const UNCOMMITTED_BYTES: usize = 16 << 20;

/// A run of records from one partition of a source.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Records that are events, in order.
    pub events: Vec<Incoming>,
    /// Records that are not events.
    pub unreadable: Vec<Unreadable>,
    /// How far the partition has been read with these records.
    pub advance: Option<Advance>,
}

impl Reading {
    /// Returns whether some of its events are identified by their content.
    pub(crate) fn is_known_by_content(&self) -> bool {
        self.events.iter().any(|event| !event.aliases.is_empty())
    }
}

impl Pipeline {
    /// Like [`begin`](Self::begin), for records read from a source: they are committed together with the source's position,
    /// or not at all.
    pub async fn begin_reading(&self, reading: Reading) -> Result<InFlight, IngestError> {
        let Reading { events, unreadable, advance } = reading;
        let Sorted { mut fates, new, conflicts } = self.sort(events).await?;
        let mut run = HandOver::new(self, unreadable, advance);
        run.unreadable.extend(conflicts);
        // The indexes of the projected events' fates.
        let mut places =
            (0..fates.len()).filter(|place| matches!(fates[*place], EventState::Submitted)).collect::<VecDeque<_>>();
        let mut new = new.into_iter().peekable();
        while new.peek().is_some() {
            let slice: Vec<Incoming> = new.by_ref().take(slice()).collect();
            for made in self.project_apart(slice).await? {
                let place = places.pop_front();
                match made {
                    EventProjection::Submission(submission, summary) => run.add(*submission, summary).await?,
                    EventProjection::Failed(event) => {
                        if let Some(place) = place {
                            fates[place] = EventState::Known(IngestOutcome::Failed);
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

    /// Projects events. One on which the host itself fails does not affect the others.
    pub(super) async fn project_apart(&self, events: Vec<Incoming>) -> Result<Vec<EventProjection>, IngestError> {
        let together = AssertUnwindSafe(self.project_new(events.clone())).catch_unwind().await;
        if let Ok(made) = together {
            return Ok(made?.into_iter().map(EventProjection::of).collect());
        }
        let mut apart = Vec::with_capacity(events.len());
        for event in events {
            match AssertUnwindSafe(self.project_new(vec![event.clone()])).catch_unwind().await {
                Ok(made) => apart.extend(made?.into_iter().map(EventProjection::of)),
                Err(_) => {
                    tracing::error!(event_id = %event.envelope.event_id, "belfry failed on this event, not on the others");
                    apart.push(EventProjection::Failed(event));
                }
            }
        }
        Ok(apart)
    }
}

/// The result of projecting a new event.
pub(super) enum EventProjection {
    Submission(Box<Submission>, Summary),
    /// The host itself failed on it.
    Failed(Incoming),
}

impl EventProjection {
    fn of((submission, summary): (Submission, Summary)) -> Self {
        Self::Submission(Box::new(submission), summary)
    }
}

/// Returns the number of events that are projected at once: one lot for each thread. Their answers are in memory together.
fn slice() -> usize {
    static SLICE: OnceLock<usize> = OnceLock::new();
    *SLICE.get_or_init(|| LOT * available_parallelism().map_or(2, usize::from).max(2))
}

/// A run that is being handed to the writer.
struct HandOver<'a> {
    pipeline: &'a Pipeline,
    run: BatchChain,
    unreadable: Vec<Unreadable>,
    advance: Option<Advance>,
    /// The submissions of the next batch.
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
            run: BatchChain::default(),
            unreadable,
            advance,
            submissions: Vec::new(),
            bytes: 0,
            summaries: Vec::new(),
            settled: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    async fn add(&mut self, submission: Submission, summary: Summary) -> Result<(), IngestError> {
        let bytes = submission.bytes();
        if self.bytes + bytes > BATCH_BYTES {
            self.cut().await?;
        }
        self.bytes += bytes;
        self.submissions.push(submission);
        self.summaries.push(summary);
        Ok(())
    }

    /// Hands over the next batch, and advances the position as far as the batch reaches.
    async fn cut(&mut self) -> Result<(), IngestError> {
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

    async fn submit(&mut self, unreadable: Vec<Unreadable>, advance: Option<Advance>) -> Result<(), IngestError> {
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

    /// Hands over the rest.
    async fn finish(mut self, fates: Vec<EventState>) -> Result<InFlight, IngestError> {
        let (unreadable, advance) = (std::mem::take(&mut self.unreadable), self.advance.take());
        self.submit(unreadable, advance).await?;
        let bytes = self.uncommitted();
        let Self { summaries, settled, pending, .. } = self;
        Ok(InFlight { fates, summaries, settled, receipts: pending.into_iter().map(|(_, one)| one).collect(), bytes })
    }
}

/// Waits until a batch is durable.
pub(super) async fn committed(receipt: PendingReceipt) -> Result<Vec<Receipt>, IngestError> {
    match receipt.await.map_err(|_| WriterGone)?? {
        BatchReceipt::Committed(receipts) => Ok(receipts),
        BatchReceipt::Fenced => Err(IngestError::Fenced),
    }
}
