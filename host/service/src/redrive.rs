//! Redrives events that a rule could not project: with the active release, in the order in which the events were recorded,
//! and without notifying anyone twice.

use std::sync::Arc;

use belfry_store::{
    DeadLetter, DeadLetterFilter, NewChange, Redrive, RedriveOutcome, Redriven, StoreError, UNSTORABLE, now_ms,
};
use bytes::Bytes;
use serde::Serialize;

use crate::heartbeat::Heartbeat;
use crate::incoming::{Arrival, Incoming};
use crate::pipeline::{IngestError, Pipeline, count_notification};
use crate::releases::LoadedRelease;

/// Number of dead letters read at once.
const PAGE: u32 = 100;

/// The result of a redrive, as counts of dead letters and notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Dead letters that were tried, or would be tried in a dry run.
    pub(crate) tried: u64,
    /// Dead letters that are settled now.
    pub(crate) redriven: u64,
    /// Notifications that were issued.
    pub(crate) notifications: u64,
    /// Notifications that were withheld: already issued, expired or muted.
    pub(crate) withheld: u64,
    /// Dead letters whose event the active release cannot project either.
    pub(crate) still_dead: u64,
    /// Dead letters that cannot be tried: no rule saw them, the rule is not active, or the event is no longer in the log.
    pub(crate) passed_over: u64,
    /// Where to continue: `after` of the next redrive; `None` if nothing is left.
    pub(crate) next_after: Option<i64>,
}

/// Redrives dead letters.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) pipeline: Pipeline,
    pub(crate) heartbeat: Heartbeat,
}

impl DeadLetters {
    /// Tries the dead letters that match a filter and have a number greater than `after`, in whole pages until at least
    /// `limit` are done. `by` is the name in the audit log.
    pub(crate) async fn redrive(
        &self,
        filter: &DeadLetterFilter,
        mut after: i64,
        limit: u64,
        by: &str,
    ) -> Result<Summary, IngestError> {
        let mut summary = Summary::default();
        let asked = NewChange::redriven(filter, after, by);
        self.pipeline.store.note_change(&asked, now_ms()).await?;
        while summary.tried + summary.passed_over < limit {
            let page = self.pipeline.store.dead_letters(filter, after, PAGE).await?;
            let Some(last) = page.last().map(|letter| letter.id) else { break };
            // One at a time, so that teachers are notified in the order in which events happened.
            for letter in page {
                self.redrive_one(&letter, by, &mut summary).await?;
            }
            after = last;
            summary.next_after = Some(after);
        }
        if self.pipeline.store.dead_letters(filter, after, 1).await?.is_empty() {
            summary.next_after = None;
        }
        Ok(summary)
    }

    async fn redrive_one(&self, letter: &DeadLetter, by: &str, summary: &mut Summary) -> Result<(), IngestError> {
        let Some((event, active)) = self.what_to_try(letter).await? else {
            summary.passed_over += 1;
            return Ok(());
        };
        summary.tried += 1;
        let (event_id, projector) = (event.envelope.event_id, active.name.clone());
        let (outcome, priorities) = self.pipeline.project_again(active, event).await?;
        let redrive = Redrive { id: letter.id, event: event_id, outcome, by: by.to_owned() };
        match self.redriven(redrive).await? {
            Redriven::StillDead => summary.still_dead += 1,
            Redriven::Settled => {}
            Redriven::Notified(notifications) => {
                summary.redriven += 1;
                for (notification, priority) in notifications.into_iter().zip(priorities) {
                    count_notification(&projector, priority, notification);
                    match notification {
                        Ok(position) => {
                            summary.notifications += 1;
                            self.heartbeat.hint(position);
                        }
                        Err(_) => summary.withheld += 1,
                    }
                }
            }
        }
        Ok(())
    }

    /// Stores the result of a redrive. If the database cannot store the notifications, the dead letter stays with the new
    /// cause `unstorable`.
    async fn redriven(&self, redrive: Redrive) -> Result<Redriven, StoreError> {
        let store = &self.pipeline.store;
        match (store.redrive(&redrive, now_ms()).await, &redrive.outcome) {
            (Err(StoreError::Refused(reason)), RedriveOutcome::Notifications { notifications, .. }) => {
                let Some(release_id) = notifications.first().map(|one| one.release_id) else {
                    return Err(StoreError::Refused(reason));
                };
                let detail = format!("the database refuses its notifications: {reason}");
                let outcome = RedriveOutcome::StillDead { release_id, cause: UNSTORABLE, detail };
                store.redrive(&Redrive { outcome, ..redrive }, now_ms()).await
            }
            (result, _) => result,
        }
    }

    /// Returns the event and the active release of its rule, or `None` if the dead letter cannot be tried.
    async fn what_to_try(&self, letter: &DeadLetter) -> Result<Option<(Incoming, Arc<LoadedRelease>)>, StoreError> {
        let (Some(event_id), Some(projector)) = (letter.event_id, &letter.projector) else { return Ok(None) };
        let Some(active) = self.pipeline.registry.serving().of(projector).cloned() else { return Ok(None) };
        if active.halt.is_some() {
            return Ok(None);
        }
        let Some(history) = self.pipeline.store.event(event_id).await? else { return Ok(None) };
        // No size limit: the event was accepted under the limit of its time.
        let read = Incoming::read(Bytes::from(history.event.payload), usize::MAX, Arrival::Posted);
        let read = read.ok().map(|event| event.known_as(event_id));
        Ok(read.filter(|event| active.wants(&event.envelope)).map(|event| (event, active)))
    }
}
