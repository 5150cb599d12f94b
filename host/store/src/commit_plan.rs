//! The decisions of a commit, made without a database: which batches take effect, which events are new, which
//! notifications are issued, and which receipt each sender gets.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, HashSet};

use belfry_model::ContentHash;
use uuid::Uuid;

use crate::{
    Advance, Batch, BatchReceipt, NewEvent, NewNotification, Origin, Receipt, SourcePartition, Submission, Unreadable,
    WITHHELD_EXPIRED, WITHHELD_ISSUED, WITHHELD_MUTED,
};

/// Returns the steps of the sources' positions: one for each partition, ordered by partition. Consecutive batches of
/// one partition are merged into one step.
pub(crate) fn advances(group: &[Batch]) -> Vec<Advance> {
    let mut steps: BTreeMap<&SourcePartition, Advance> = BTreeMap::new();
    for advance in group.iter().filter_map(|batch| batch.advance.as_ref()) {
        match steps.get_mut(&advance.partition) {
            None => {
                steps.insert(&advance.partition, advance.clone());
            }
            Some(step) if step.next == advance.expected => step.next = advance.next,
            // It does not continue the previous step, so its reader has lost track of the position.
            Some(_) => {}
        }
    }
    steps.into_values().collect()
}

/// Returns for each batch whether it is fenced, given the partitions whose positions moved. A fenced batch has no
/// effect.
pub(crate) fn fenced(group: &[Batch], moved: &HashSet<SourcePartition>) -> Vec<bool> {
    let mut reached: HashMap<&SourcePartition, i64> = HashMap::new();
    let mut fenced = Vec::with_capacity(group.len());
    for batch in group {
        let counts = match &batch.advance {
            None => true,
            Some(Advance { partition, expected, next }) => {
                let follows = reached.get(partition).is_none_or(|reached| reached == expected);
                let counts = moved.contains(partition) && follows;
                if counts {
                    reached.insert(partition, *next);
                }
                counts
            }
        };
        fenced.push(!counts);
    }
    fenced
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
    Conflict,
}

/// The verdicts on the submissions, in their order.
#[derive(Default)]
pub(crate) struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// `before` holds the events that were recorded before. If a group holds the same id twice, the first one counts.
    pub(crate) fn of(submissions: &[&Submission], before: HashMap<Uuid, ContentHash>) -> Self {
        let mut taken = before;
        let verdict = |submission: &&Submission| match taken.entry(submission.event.event_id) {
            Entry::Occupied(there) if *there.get() == submission.event.content_hash => Verdict::Duplicate,
            Entry::Occupied(_) => Verdict::Conflict,
            Entry::Vacant(free) => {
                free.insert(submission.event.content_hash);
                Verdict::New
            }
        };
        Self(submissions.iter().map(verdict).collect())
    }

    /// Returns the records that become dead letters: those that are not events, and conflicts where no sender
    /// waits for an answer.
    pub(crate) fn unreadable(&self, group: &[Batch], fenced: &[bool], submissions: &[&Submission]) -> Vec<Unreadable> {
        let counting = group.iter().zip(fenced).filter(|(_, fenced)| !**fenced);
        let mut unreadable: Vec<Unreadable> =
            counting.flat_map(|(batch, _)| batch.unreadable.iter().cloned()).collect();
        for (submission, verdict) in submissions.iter().zip(&self.0) {
            if let (Some(origin), Verdict::Conflict) = (&submission.origin, verdict) {
                let event = &submission.event;
                unreadable.push(Unreadable::conflict(origin, event.event_id, event.payload.clone()));
            }
        }
        unreadable
    }

    pub(crate) fn new_ones<'a>(&self, submissions: &[&'a Submission]) -> Vec<&'a Submission> {
        submissions.iter().zip(&self.0).filter(|(_, verdict)| **verdict == Verdict::New).map(|(one, _)| *one).collect()
    }
}

/// A row to append to the log.
pub(crate) enum LogRow<'a> {
    /// An event, and where it was read.
    Event(&'a NewEvent, Option<&'a Origin>),
    /// A notification, and the event that caused it.
    Notification(&'a NewNotification, Uuid),
}

impl LogRow<'_> {
    /// Returns the id of the event or notification.
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Event(event, _) => event.event_id,
            Self::Notification(notification, _) => notification.notification_id,
        }
    }
}

/// A withheld notification, the event that caused it, and the reason.
pub(crate) type WithheldRow<'a> = (&'a NewNotification, Uuid, &'static str);

/// The rows that a commit writes.
pub(crate) struct Plan<'a> {
    pub(crate) rows: Vec<LogRow<'a>>,
    pub(crate) withheld: Vec<WithheldRow<'a>>,
    accepted: Vec<Planned>,
}

/// The indexes of a new event and its notifications in the plan's rows, and the number of the event's dead letters.
struct Planned {
    row: usize,
    notifications: Vec<Result<usize, &'static str>>,
    dead_letters: usize,
}

impl<'a> Plan<'a> {
    /// `issued` holds the ids of notifications that were issued before.
    pub(crate) fn of(new: &[&'a Submission], mut issued: HashSet<Uuid>, now_ms: i64) -> Self {
        let mut plan = Self { rows: Vec::new(), withheld: Vec::new(), accepted: Vec::with_capacity(new.len()) };
        for submission in new {
            let event_id = submission.event.event_id;
            let row = plan.rows.len();
            plan.rows.push(LogRow::Event(&submission.event, submission.origin.as_ref()));
            let notifications =
                plan.add_notifications(event_id, &submission.notifications, submission.muted, &mut issued, now_ms);
            plan.accepted.push(Planned { row, notifications, dead_letters: submission.dead_letters.len() });
        }
        plan
    }

    /// Plans a redrive. Also returns for each notification its index in the rows, or why it is withheld. `issued` holds
    /// the ids of notifications that were issued before.
    pub(crate) fn of_redrive(
        event_id: Uuid,
        new: &'a [NewNotification],
        muted: bool,
        mut issued: HashSet<Uuid>,
        now_ms: i64,
    ) -> (Self, Vec<Result<usize, &'static str>>) {
        let mut plan = Self { rows: Vec::new(), withheld: Vec::new(), accepted: Vec::new() };
        let notifications = plan.add_notifications(event_id, new, muted, &mut issued, now_ms);
        (plan, notifications)
    }

    /// Returns for each notification its index in the rows, or why it is withheld.
    fn add_notifications(
        &mut self,
        event_id: Uuid,
        new: &'a [NewNotification],
        muted: bool,
        issued: &mut HashSet<Uuid>,
        now_ms: i64,
    ) -> Vec<Result<usize, &'static str>> {
        let mut notifications = Vec::with_capacity(new.len());
        for notification in new {
            // An expired notification is not issued, so that it can still be sent if its expiry time is corrected.
            let withheld = if muted {
                Some(WITHHELD_MUTED)
            } else if notification.expired(now_ms) {
                Some(WITHHELD_EXPIRED)
            } else if issued.insert(notification.notification_id) {
                None
            } else {
                Some(WITHHELD_ISSUED)
            };
            notifications.push(match withheld {
                Some(reason) => {
                    self.withheld.push((notification, event_id, reason));
                    Err(reason)
                }
                None => {
                    self.rows.push(LogRow::Notification(notification, event_id));
                    Ok(self.rows.len() - 1)
                }
            });
        }
        notifications
    }

    /// Returns the receipts, given the positions of the rows and the ids of the dead letters.
    pub(crate) fn receipts(
        self,
        group: &[Batch],
        fenced: &[bool],
        verdicts: &Verdicts,
        positions: &[i64],
        dead_letters: Vec<i64>,
    ) -> Vec<BatchReceipt> {
        let mut accepted = self.accepted.into_iter();
        let mut verdicts = verdicts.0.iter();
        let mut dead_letters = dead_letters.into_iter();
        let mut receipt = |_: &Submission| match verdicts.next().expect("a verdict for each submission") {
            Verdict::Duplicate => Receipt::Duplicate,
            Verdict::Conflict => Receipt::Conflict,
            Verdict::New => {
                let planned = accepted.next().expect("a plan for each new event");
                Receipt::Accepted {
                    position: positions[planned.row],
                    notifications: planned.notifications.into_iter().map(|row| row.map(|row| positions[row])).collect(),
                    dead_letters: dead_letters.by_ref().take(planned.dead_letters).collect(),
                }
            }
        };
        let batch = |(batch, fenced): (&Batch, &bool)| match fenced {
            true => BatchReceipt::Fenced,
            false => BatchReceipt::Committed(batch.submissions.iter().map(&mut receipt).collect()),
        };
        group.iter().zip(fenced).map(batch).collect()
    }
}
