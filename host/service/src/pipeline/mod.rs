//! The story of an event: is it new? → project it with every projector that wants it → hand event, notifications and
//! dead letters to the writer → answer once they are durable.
//!
//! The event never waits for a rule to be mended: where a projector fails, the event, the other projectors' notifications
//! and a dead letter are committed together. No transaction is open while a rule runs.

mod aside;
mod project;
mod publish;
mod reading;
mod record;

use std::collections::HashSet;
use std::sync::Arc;

use belfry_model::{MessageSettings, Outcome};
use belfry_sandbox::{Executor, Overloaded};
use belfry_store::{
    Batch, PendingReceipt, Receipt, RedriveOutcome, Run, Store, StoreError, Submission, UNSTORABLE, Unreadable, Writer,
    WriterGone, crash_point,
};
use uuid::Uuid;

use crate::ingest::Incoming;
use crate::kafka::Unsendable;
use crate::releases::{Active, Registry};
use reading::Made;

pub(crate) use aside::Aside;
pub(crate) use publish::Publishing;
pub use reading::Reading;
pub(crate) use reading::UNCOMMITTED_BYTES;
pub(crate) use record::ProjectionRecord;

/// Log entries that are handed to the writer at once.
const GROUP_ENTRIES: usize = 500;

/// What an accepted event led to.
#[derive(Clone, Debug)]
pub enum Taken {
    /// It is durable, and so is all that follows from it.
    Accepted(Accepted),
    /// The same event was taken before: no second effect.
    Duplicate,
    /// Another event was taken under this id before: no second effect, and the sender must know.
    Conflict,
    /// The database cannot hold it, for this reason, so it is not recorded, and the sender must know.
    Unstorable(String),
    /// It could never be published, so it is not recorded, and the sender must know.
    Unsendable(Unsendable),
    /// The host itself failed on it, so it is not recorded as an event; one that was read from a source is a dead letter.
    Failed,
}

impl Taken {
    /// The word for it in metrics.
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

/// A new event's place in the log.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The event's position.
    pub position: i64,
    /// Whether it is published.
    pub published: bool,
    /// Its notifications in the log.
    pub notifications: Vec<Noted>,
    /// What projectors could not project.
    pub dead_letters: Vec<Buried>,
}

/// A notification in the log.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Its derived id.
    pub notification_id: Uuid,
    /// Which projector made it.
    pub projector: String,
    /// Who is notified.
    pub recipient: String,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Buried {
    /// Its number.
    pub id: i64,
    /// Which projector failed.
    pub projector: String,
    /// From the vocabulary of outcomes.
    pub cause: &'static str,
}

/// Why events are not taken. None of them had an effect, unless a commit's answer was lost; sending them again is
/// harmless.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Too much is waiting.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// No rule came to an answer, and none had the processor for long enough: not the rules are at fault but this host.
    #[error("this host is too busy: its rules ran out of time without having had the processor")]
    Starved,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service is stopping.
    #[error(transparent)]
    Stopping(#[from] WriterGone),
    /// The source's position is elsewhere: somebody else reads it now, or it was set.
    #[error("the source's position is not where its reader believed it to be")]
    Fenced,
}

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) registry: Registry,
    pub(crate) executor: Executor,
    /// Runs rules that no sender waits for: those of replays, and of events that are looked at again.
    pub(crate) beside: Executor,
    pub(crate) aside: Aside,
    pub(crate) messages: Arc<MessageSettings>,
    pub(crate) publishing: Publishing,
}

impl Pipeline {
    /// Take events in order; they stay together in the log. Gives their fates once all are durable.
    pub async fn take(&self, events: Vec<Incoming>) -> Result<Vec<Taken>, NotTaken> {
        self.begin(&Run::default(), events).await?.finish().await
    }

    /// As [`take`](Self::take), but only until the writer has them: the next events may be begun before these are
    /// durable. If one part of a run fails, those behind it do too.
    pub async fn begin(&self, run: &Run, events: Vec<Incoming>) -> Result<InFlight, NotTaken> {
        let Prepared { fates, submissions, summaries } = self.prepare(events).await?;
        let mut receipts = Vec::new();
        for group in groups(submissions) {
            receipts.push(self.writer.submit_behind(run, Batch::of(group)).await?);
        }
        Ok(InFlight { fates, summaries, settled: Vec::new(), receipts, bytes: 0 })
    }

    /// Leave out what is known, and project the rest.
    async fn prepare(&self, events: Vec<Incoming>) -> Result<Prepared, NotTaken> {
        let Sorted { mut fates, new, conflicts: _ } = self.sort(events).await?;
        let mut projected = self.project_apart(new).await?.into_iter();
        let (mut submissions, mut summaries) = (Vec::new(), Vec::new());
        for fate in fates.iter_mut().filter(|fate| matches!(fate, Fate::Submitted)) {
            match projected.next() {
                Some(Made::Submission(submission, summary)) => {
                    submissions.push(*submission);
                    summaries.push(summary);
                }
                Some(Made::Failed(_)) | None => *fate = Fate::Known(Taken::Failed),
            }
        }
        Ok(Prepared { fates, submissions, summaries })
    }

    /// Tell what is known from what is new.
    async fn sort(&self, events: Vec<Incoming>) -> Result<Sorted, NotTaken> {
        if events.is_empty() {
            return Ok(Sorted::default());
        }
        let own = events.iter().map(|event| event.envelope.event_id);
        let ids: Vec<Uuid> = own.chain(events.iter().flat_map(|event| event.aliases.iter().copied())).collect();
        let known = self.store.known(&ids).await?;
        // Ids that the content of new events gives them: the writer tells which of those under one id comes first.
        let mut by_content = HashSet::new();
        let mut fates = Vec::with_capacity(events.len());
        let mut new = Vec::with_capacity(events.len());
        let mut conflicts = Vec::new();
        let serving = self.registry.serving();
        for mut event in events {
            if event.aliases.iter().any(|alias| known.get(alias) == Some(&event.content_hash)) {
                fates.push(Fate::Known(Taken::Duplicate));
                continue;
            }
            if let Some(alias) = event.aliases.iter().copied().find(|alias| by_content.contains(alias)) {
                event = event.known_as(alias);
            }
            let event_id = event.envelope.event_id;
            match known.get(&event_id) {
                Some(hash) if *hash == event.content_hash => fates.push(Fate::Known(Taken::Duplicate)),
                Some(_) => {
                    fates.push(Fate::Known(Taken::Conflict));
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
                        fates.push(Fate::Known(Taken::Unsendable(unsendable)));
                    }
                    None => {
                        fates.push(Fate::Submitted);
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

    /// Project events that are new.
    async fn project_new(&self, new: Vec<Incoming>) -> Result<Vec<(Submission, Summary)>, NotTaken> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        crash_point!("pipeline.project");
        let projected = project::all(self, &new).await?;
        let muted = self.registry.is_muted();
        let serving = self.registry.serving();
        let made = new.into_iter().zip(projected).map(|(event, projected)| {
            let published = self.publishing.publishes(&event, &serving);
            record::submission(event, projected, self.publishing.mode, published, muted)
        });
        Ok(made.collect())
    }

    /// What the release makes of an event that was taken long ago, and how urgent each of its notifications is.
    pub(crate) async fn project_again(
        &self,
        active: Arc<Active>,
        event: Incoming,
    ) -> Result<(RedriveOutcome, Vec<&'static str>), NotTaken> {
        let projected = project::one(self, active, &event).await?;
        if projected.starved {
            return Err(NotTaken::Starved);
        }
        let made = projected.answer.iter().flatten();
        let priorities = made.map(|(notification, _)| notification.priority.as_str()).collect();
        Ok((record::redriven(&event, projected, self.publishing.mode, self.registry.is_muted()), priorities))
    }
}

/// Events that are ready to be committed.
struct Prepared {
    fates: Vec<Fate>,
    submissions: Vec<Submission>,
    summaries: Vec<Summary>,
}

/// What is known of events before they are projected.
#[derive(Default)]
struct Sorted {
    fates: Vec<Fate>,
    /// Those that are new, in order.
    new: Vec<Incoming>,
    /// Those that become dead letters as they are.
    conflicts: Vec<Unreadable>,
}

/// Split where more would have to be committed in one transaction than is good for those who wait. An event and what
/// follows from it stay together.
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

enum Fate {
    Known(Taken),
    Submitted,
}

/// What is told about a submission once it is durable.
struct Summary {
    published: bool,
    notifications: Vec<(Noted, &'static str)>,
    dead_letters: Vec<(String, &'static str)>,
}

/// Events that the writer has, and those that need not go there.
pub struct InFlight {
    fates: Vec<Fate>,
    summaries: Vec<Summary>,
    /// Of those that are durable already.
    settled: Vec<Receipt>,
    receipts: Vec<PendingReceipt>,
    bytes: usize,
}

impl InFlight {
    /// Bytes of what was read from a source and is with the writer.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Wait until all are durable.
    pub async fn finish(self) -> Result<Vec<Taken>, NotTaken> {
        let mut receipts = self.settled;
        for pending in self.receipts {
            receipts.extend(reading::committed(pending).await?);
        }
        let mut submitted = self.summaries.into_iter().zip(receipts);
        let taken = |fate| match fate {
            Fate::Known(taken) => taken,
            Fate::Submitted => {
                let (summary, receipt) = submitted.next().expect("a receipt for every submission");
                told(summary, receipt)
            }
        };
        Ok(self.fates.into_iter().map(taken).collect())
    }
}

/// Count what became durable, and tell it.
fn told(summary: Summary, receipt: Receipt) -> Taken {
    let (position, notifications, dead_letters) = match receipt {
        Receipt::Accepted { position, notifications, dead_letters } => (position, notifications, dead_letters),
        Receipt::Duplicate => return Taken::Duplicate,
        Receipt::Conflict => return Taken::Conflict,
        Receipt::Unstorable(reason) => return Taken::Unstorable(reason),
    };
    // Of a projector whose notifications the database refuses, the dead letter comes behind the others.
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
        buried.push(Buried { id, projector, cause });
    }
    Taken::Accepted(Accepted { position, published: summary.published, notifications: noted, dead_letters: buried })
}

/// Count a notification that is in the log, or why it is not.
pub(crate) fn count_notification(projector: &str, priority: &'static str, fate: Result<i64, &'static str>) {
    match fate {
        Ok(_) => {
            metrics::counter!("belfry_notifications_total", "projector" => projector.to_owned(), "priority" => priority)
                .increment(1)
        }
        Err(reason) => metrics::counter!("belfry_withheld_total", "reason" => reason).increment(1),
    }
}
