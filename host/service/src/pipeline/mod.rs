//! The path of an event: check whether it is new → project it with every projector that subscribes to it → hand event,
//! notifications and dead letters to the writer → answer once they are durable.
//!
//! An event never waits for a rule to be fixed: if a projector fails, the event, the other projectors' notifications and a
//! dead letter are committed together. No transaction is open while a rule runs.

mod project;
mod projected;
mod publish;
mod reading;
mod rows;
mod shadow_worker;

use std::collections::HashSet;
use std::sync::Arc;

use belfry_model::{MessageSettings, Outcome};
use belfry_sandbox::{Executor, Overloaded};
use belfry_store::{
    Batch, BatchChain, PendingReceipt, Receipt, RedriveOutcome, Store, StoreError, Submission, UNSTORABLE, Unreadable,
    Writer, WriterGone, crash_point,
};
use reading::EventProjection;
use uuid::Uuid;

use crate::incoming::Incoming;
use crate::kafka::Unsendable;
use crate::releases::{LoadedRelease, Registry};

pub(crate) use publish::Publishing;
pub use reading::Reading;
pub(crate) use reading::UNCOMMITTED_BYTES;
pub(crate) use rows::ProjectionRecord;
pub(crate) use shadow_worker::ShadowWorker;

/// Limit on the log entries of a batch for the writer, unless a single event has more.
const GROUP_ENTRIES: usize = 500;

/// The result for an event.
#[derive(Clone, Debug)]
pub enum IngestOutcome {
    /// The event and everything that follows from it are durable.
    Accepted(Accepted),
    /// The same event was accepted before. This one has no effect.
    Duplicate,
    /// Another event was accepted under this id before. This one has no effect, and the sender must be notified.
    Conflict,
    /// The database cannot store it, for this reason. It is not recorded, and the sender must be notified.
    Unstorable(String),
    /// It could never be published. It is not recorded, and the sender must be notified.
    Unsendable(Unsendable),
    /// The host itself failed on it. It is not recorded as an event; one that was read from a source becomes a dead letter.
    Failed,
}

impl IngestOutcome {
    /// Returns the name of the result in metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Unstorable(_) => UNSTORABLE,
            Self::Unsendable(unsendable) => unsendable.outcome(),
            Self::Failed => Outcome::Undecodable.as_str(),
        }
    }
}

/// A new event in the log.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The event's position.
    pub position: i64,
    /// Whether it is published.
    pub published: bool,
    /// Its notifications in the log.
    pub notifications: Vec<IssuedNotification>,
    /// The dead letters of projectors that failed on it.
    pub dead_letters: Vec<DeadLettered>,
}

/// A notification in the log.
#[derive(Clone, Debug)]
pub struct IssuedNotification {
    /// Its derived id.
    pub notification_id: Uuid,
    /// The projector that made it.
    pub projector: String,
    /// The recipient.
    pub recipient: String,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLettered {
    /// Its number.
    pub id: i64,
    /// The projector that failed.
    pub projector: String,
    /// The cause, from the vocabulary of outcomes.
    pub cause: &'static str,
}

/// Why events are not accepted. None of them had an effect, unless a commit's answer was lost. Retrying is safe.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Too much work is queued.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// No rule returned an answer, and none had the processor for long enough: this host is at fault, not the rules.
    #[error("this host is too busy: its rules ran out of time without enough processor time")]
    Starved,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service is stopping.
    #[error(transparent)]
    Stopping(#[from] WriterGone),
    /// The source's position has changed: another replica reads the source now, or an operator set the position.
    #[error("the source's position is not where its reader expected it")]
    Fenced,
}

/// Accepts events. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) registry: Registry,
    pub(crate) executor: Executor,
    /// Runs rules that no sender waits for: in replays and in reruns of events.
    pub(crate) beside: Executor,
    pub(crate) aside: ShadowWorker,
    pub(crate) messages: Arc<MessageSettings>,
    pub(crate) publishing: Publishing,
}

impl Pipeline {
    /// Accepts events in order; they stay together in the log. Returns their results once all are durable.
    pub async fn take(&self, events: Vec<Incoming>) -> Result<Vec<IngestOutcome>, IngestError> {
        self.begin(&BatchChain::default(), events).await?.finish().await
    }

    /// Like [`take`](Self::take), but returns as soon as the writer has the events: the next events may begin before these
    /// are durable. If one part of a run fails, all later parts fail too.
    pub async fn begin(&self, run: &BatchChain, events: Vec<Incoming>) -> Result<InFlight, IngestError> {
        let Prepared { fates, submissions, summaries } = self.prepare(events).await?;
        let mut receipts = Vec::new();
        for group in groups(submissions) {
            receipts.push(self.writer.submit_behind(run, Batch::of(group)).await?);
        }
        Ok(InFlight { fates, summaries, settled: Vec::new(), receipts, bytes: 0 })
    }

    /// Skips known events, and projects the others.
    async fn prepare(&self, events: Vec<Incoming>) -> Result<Prepared, IngestError> {
        let Sorted { mut fates, new, conflicts: _ } = self.sort(events).await?;
        let mut projected = self.project_apart(new).await?.into_iter();
        let (mut submissions, mut summaries) = (Vec::new(), Vec::new());
        for fate in fates.iter_mut().filter(|fate| matches!(fate, EventState::Submitted)) {
            match projected.next() {
                Some(EventProjection::Submission(submission, summary)) => {
                    submissions.push(*submission);
                    summaries.push(summary);
                }
                Some(EventProjection::Failed(_)) | None => *fate = EventState::Known(IngestOutcome::Failed),
            }
        }
        Ok(Prepared { fates, submissions, summaries })
    }

    /// Separates known events from new ones.
    async fn sort(&self, events: Vec<Incoming>) -> Result<Sorted, IngestError> {
        if events.is_empty() {
            return Ok(Sorted::default());
        }
        let own = events.iter().map(|event| event.envelope.event_id);
        let ids: Vec<Uuid> = own.chain(events.iter().flat_map(|event| event.aliases.iter().copied())).collect();
        let known = self.store.known(&ids).await?;
        // Ids of new events that are identified by their content: the writer decides which event under one id comes first.
        let mut by_content = HashSet::new();
        let mut fates = Vec::with_capacity(events.len());
        let mut new = Vec::with_capacity(events.len());
        let mut conflicts = Vec::new();
        let serving = self.registry.serving();
        for mut event in events {
            if event.aliases.iter().any(|alias| known.get(alias) == Some(&event.content_hash)) {
                fates.push(EventState::Known(IngestOutcome::Duplicate));
                continue;
            }
            if let Some(alias) = event.aliases.iter().copied().find(|alias| by_content.contains(alias)) {
                event = event.known_as(alias);
            }
            let event_id = event.envelope.event_id;
            match known.get(&event_id) {
                Some(hash) if *hash == event.content_hash => fates.push(EventState::Known(IngestOutcome::Duplicate)),
                Some(_) => {
                    fates.push(EventState::Known(IngestOutcome::Conflict));
                    if let Some(origin) = event.arrival.origin() {
                        conflicts.push(Unreadable::conflict(origin, event_id, event.payload.clone()));
                    }
                }
                None => match self.publishing.refuses(&event, &serving).await {
                    Some(unsendable) => {
                        if let Some(origin) = event.arrival.origin() {
                            let at = if event.topic() == event.envelope.event_type { "/event_type" } else { "topic" };
                            let detail = format!("{at}: {unsendable}");
                            conflicts.push(Unreadable::unsendable(origin, event_id, detail, event.payload.clone()));
                        }
                        fates.push(EventState::Known(IngestOutcome::Unsendable(unsendable)));
                    }
                    None => {
                        fates.push(EventState::Submitted);
                        if !event.aliases.is_empty() {
                            by_content.insert(event_id);
                        }
                        new.push(event);
                    }
                },
            }
        }
        Ok(Sorted { fates, new, conflicts })
    }

    /// Projects new events.
    async fn project_new(&self, new: Vec<Incoming>) -> Result<Vec<(Submission, Summary)>, IngestError> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        crash_point!("pipeline.project");
        let projected = project::all(self, &new).await?;
        let muted = self.registry.is_muted();
        let serving = self.registry.serving();
        let made = new.into_iter().zip(projected).map(|(event, projected)| {
            let published = self.publishing.publishes(&event, &serving);
            rows::submission(event, projected, self.publishing.mode, published, muted)
        });
        Ok(made.collect())
    }

    /// Projects an event that was accepted earlier. Returns the outcome and the priorities of its notifications.
    pub(crate) async fn project_again(
        &self,
        active: Arc<LoadedRelease>,
        event: Incoming,
    ) -> Result<(RedriveOutcome, Vec<&'static str>), IngestError> {
        let projected = project::one(self, active, &event).await?;
        if projected.starved {
            return Err(IngestError::Starved);
        }
        let made = projected.answer.iter().flatten();
        let priorities = made.map(|(notification, _)| notification.priority.as_str()).collect();
        Ok((rows::redriven(&event, projected, self.publishing.mode, self.registry.is_muted()), priorities))
    }
}

/// Events that are ready to be committed, and the results for the others.
struct Prepared {
    fates: Vec<EventState>,
    submissions: Vec<Submission>,
    summaries: Vec<Summary>,
}

/// Known and new events, before the new ones are projected.
#[derive(Default)]
struct Sorted {
    fates: Vec<EventState>,
    /// New events, in order.
    new: Vec<Incoming>,
    /// Events that become dead letters without being projected.
    conflicts: Vec<Unreadable>,
}

/// Splits submissions into batches, because a larger transaction would delay the waiting senders. An event and everything
/// that follows from it stay together.
fn groups(submissions: Vec<Submission>) -> Vec<Vec<Submission>> {
    let mut groups: Vec<Vec<Submission>> = Vec::new();
    let mut entries = 0;
    for submission in submissions {
        entries += submission.entries();
        match groups.last_mut() {
            Some(group) if entries <= GROUP_ENTRIES => group.push(submission),
            _ => {
                entries = submission.entries();
                groups.push(vec![submission]);
            }
        }
    }
    groups
}

enum EventState {
    Known(IngestOutcome),
    Submitted,
}

/// The part of a submission that is reported once it is durable.
struct Summary {
    published: bool,
    notifications: Vec<(IssuedNotification, &'static str)>,
    dead_letters: Vec<(String, &'static str)>,
}

/// Events that were handed to the writer, and those that need not be.
pub struct InFlight {
    fates: Vec<EventState>,
    summaries: Vec<Summary>,
    /// Receipts of events that are already durable.
    settled: Vec<Receipt>,
    receipts: Vec<PendingReceipt>,
    bytes: usize,
}

impl InFlight {
    /// Returns the bytes of records from a source that were handed to the writer and are not committed yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waits until all events are durable.
    pub async fn finish(self) -> Result<Vec<IngestOutcome>, IngestError> {
        let mut receipts = self.settled;
        for pending in self.receipts {
            receipts.extend(reading::committed(pending).await?);
        }
        let mut submitted = self.summaries.into_iter().zip(receipts);
        let taken = |fate| match fate {
            EventState::Known(taken) => taken,
            EventState::Submitted => {
                let (summary, receipt) = submitted.next().expect("a receipt for every submission");
                recorded(summary, receipt)
            }
        };
        Ok(self.fates.into_iter().map(taken).collect())
    }
}

/// Counts a durable submission, and returns its result.
fn recorded(summary: Summary, receipt: Receipt) -> IngestOutcome {
    let (position, notifications, dead_letters) = match receipt {
        Receipt::Accepted { position, notifications, dead_letters } => (position, notifications, dead_letters),
        Receipt::Duplicate => return IngestOutcome::Duplicate,
        Receipt::Conflict => return IngestOutcome::Conflict,
        Receipt::Unstorable(reason) => return IngestOutcome::Unstorable(reason),
    };
    // If the database refuses a projector's notifications, its dead letter follows the others.
    let mut dead = summary.dead_letters;
    let mut noted = Vec::with_capacity(notifications.len());
    for ((note, priority), fate) in summary.notifications.into_iter().zip(notifications) {
        if fate == Err(UNSTORABLE) {
            if !dead.iter().any(|(projector, _)| *projector == note.projector) {
                dead.push((note.projector, UNSTORABLE));
            }
            continue;
        }
        count_notification(&note.projector, priority, fate);
        if fate.is_ok() {
            noted.push(note);
        }
    }
    let mut buried = Vec::with_capacity(dead_letters.len());
    for ((projector, cause), id) in dead.into_iter().zip(dead_letters) {
        metrics::counter!("belfry_dead_letters_total", "projector" => projector.clone(), "cause" => cause).increment(1);
        buried.push(DeadLettered { id, projector, cause });
    }
    IngestOutcome::Accepted(Accepted {
        position,
        published: summary.published,
        notifications: noted,
        dead_letters: buried,
    })
}

/// Counts a notification that is in the log, or the reason why it is not.
pub(crate) fn count_notification(projector: &str, priority: &'static str, fate: Result<i64, &'static str>) {
    match fate {
        Ok(_) => {
            metrics::counter!("belfry_notifications_total", "projector" => projector.to_owned(), "priority" => priority)
                .increment(1)
        }
        Err(reason) => metrics::counter!("belfry_withheld_total", "reason" => reason).increment(1),
    }
}
