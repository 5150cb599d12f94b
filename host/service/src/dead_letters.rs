//! Giving events another try that a rule could not project: with the release that serves now, in the order in which they
//! were recorded, and so that nobody is told twice.

use std::sync::Arc;

use belfry_store::{
    DeadLetter, DeadLetterFilter, NewChange, Redrive, RedriveOutcome, Redriven, StoreError, UNSTORABLE,
};
use bytes::Bytes;
use serde::Serialize;

use crate::clock::now_ms;
use crate::heartbeat::Heartbeat;
use crate::ingest::{Arrival, Incoming};
use crate::pipeline::{NotTaken, Pipeline, count_notification};
use crate::releases::Active;

/// Dead letters that are read at once.
const PAGE: u32 = 100;

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Dead letters that were tried, or with a dry run would be.
    pub(crate) tried: u64,
    /// That are settled now.
    pub(crate) redriven: u64,
    /// Notifications that came of them.
    pub(crate) notifications: u64,
    /// Notifications that were withheld: told before, expired, or muted.
    pub(crate) withheld: u64,
    /// That the release that serves now cannot project either.
    pub(crate) still_dead: u64,
    /// That cannot be tried: no rule saw them, the rule does not serve, or the event is no longer in the log.
    pub(crate) passed_over: u64,
    /// After which one to go on, if there is more.
    pub(crate) next_after: Option<i64>,
}

/// Tries dead letters again.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) pipeline: Pipeline,
    pub(crate) heartbeat: Heartbeat,
}

impl DeadLetters {
    /// Try those that a filter means, after a number, up to `limit`.
    pub(crate) async fn redrive(
        &self,
        filter: &DeadLetterFilter,
        mut after: i64,
        limit: u64,
        by: &str,
    ) -> Result<Summary, NotTaken> {
        let mut summary = Summary::default();
        let asked = NewChange::redriven(filter, after, by);
        self.pipeline.store.note_change(&asked, now_ms()).await?;
        while summary.tried + summary.passed_over < limit {
            let page = self.pipeline.store.dead_letters(filter, after, PAGE).await?;
            let Some(last) = page.last().map(|letter| letter.id) else { break };
            // One after the other: a teacher is told in the order in which things happened.
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

    async fn redrive_one(&self, letter: &DeadLetter, by: &str, summary: &mut Summary) -> Result<(), NotTaken> {
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
            Redriven::Told(notifications) => {
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

    /// What the database cannot hold is as dead as before, for another reason.
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

    /// The event and the release that serves its rule now; none where nothing can be tried.
    async fn what_to_try(&self, letter: &DeadLetter) -> Result<Option<(Incoming, Arc<Active>)>, StoreError> {
        let (Some(event_id), Some(projector)) = (letter.event_id, &letter.projector) else { return Ok(None) };
        let Some(active) = self.pipeline.registry.serving().of(projector).cloned() else { return Ok(None) };
        if active.halt.is_some() {
            return Ok(None);
        }
        let Some(history) = self.pipeline.store.event(event_id).await? else { return Ok(None) };
        // It was taken, so it is no larger than what was taken then.
        let read = Incoming::read(Bytes::from(history.event.payload), usize::MAX, Arrival::Posted);
        let read = read.ok().map(|event| event.known_as(event_id));
        Ok(read.filter(|event| active.wants(&event.envelope)).map(|event| (event, active)))
    }
}
