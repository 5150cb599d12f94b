//! Projects a recorded event again with the releases that projected it, to check that the result is the same. Nothing is
//! recorded or sent.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use belfry_model::{Event, Outcome};
use belfry_sandbox::Overloaded;
use belfry_store::{EventHistory, StoreError};
use serde::Serialize;
use uuid::Uuid;

use crate::diff::{Difference, FieldChange, NotificationContent, Pair, ProjectionResult, is_its_own, outcome, pairs};
use crate::dry_run::project;
use crate::pipeline::{Pipeline, ProjectionRecord};
use crate::releases::ReleaseError;

/// Why an event cannot be projected again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRerun {
    /// It is not in the log.
    #[error("no event {0} in the log")]
    Unknown(Uuid),
    /// This version of Belfry cannot parse it.
    #[error("the event cannot be read by this version: {0}")]
    Unreadable(String),
    /// A release is missing or cannot be loaded.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue of the guest threads is full.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// The recorded result of a release for an event, and its result now.
#[derive(Debug, Serialize)]
pub(crate) struct Rerun {
    projector: String,
    release: String,
    release_id: i64,
    then: Outcome,
    now: Outcome,
    /// Whether both results are the same; null if that cannot be determined.
    same: Option<bool>,
    differences: Vec<Differing>,
}

/// A notification that differs.
#[derive(Debug, Serialize)]
struct Differing {
    notification_id: Uuid,
    difference: Difference,
    fields: Vec<FieldChange>,
}

/// The recorded result of a release for an event.
struct RecordedResult {
    projector: String,
    outcome: Outcome,
    issued: Vec<NotificationContent>,
    /// Ids only: the content of withheld notifications is not stored.
    withheld: HashSet<Uuid>,
    /// Whether some of the returned notifications are no longer known: withheld ones are retired earlier than the log.
    is_incomplete: bool,
}

/// Projects an event again with each release that projected it.
pub(crate) async fn rerun(pipeline: &Pipeline, event_id: Uuid) -> Result<Vec<Rerun>, NotRerun> {
    let history = pipeline.store.event(event_id).await?.ok_or(NotRerun::Unknown(event_id))?;
    let unreadable = |error: &dyn std::fmt::Display| NotRerun::Unreadable(error.to_string());
    let envelope = Arc::new(history.event.envelope().map_err(|error| unreadable(&error))?);
    let event = Arc::new(Event::from_envelope(&envelope).map_err(|error| unreadable(&error))?);
    let projections: Vec<ProjectionRecord> =
        history.event.projections.as_deref().and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let releases = releases(&history, &projections);
    pipeline.registry.learn(releases.iter().copied()).await?;
    let mut reruns = Vec::with_capacity(releases.len());
    for release_id in releases {
        let then = then(&history, &projections, release_id, pipeline);
        let active = pipeline.registry.loaded(release_id, &then.projector).await?;
        let (asked, envelope, event) = (active.clone(), envelope.clone(), event.clone());
        let messages = pipeline.messages.clone();
        let now = move || project(&asked, &envelope, &event, &messages);
        let now = pipeline.beside.run(release_id, now).await?;
        reruns.push(compare(then, active.label.clone(), release_id, &now));
    }
    Ok(reruns)
}

/// Returns the releases that projected an event, including those of redrives.
fn releases(history: &EventHistory, projections: &[ProjectionRecord]) -> BTreeSet<i64> {
    let of_projections = projections.iter().map(|projection| projection.release_id);
    let of_notifications = history.notifications.iter().filter_map(|entry| entry.release_id);
    let of_withheld = history.withheld.iter().map(|withheld| withheld.release_id);
    of_projections.chain(of_notifications).chain(of_withheld).collect()
}

fn then(
    history: &EventHistory,
    projections: &[ProjectionRecord],
    release_id: i64,
    pipeline: &Pipeline,
) -> RecordedResult {
    let recorded = projections.iter().find(|projection| projection.release_id == release_id);
    let issued = history.notifications.iter().filter(|entry| entry.release_id == Some(release_id));
    let withheld = history.withheld.iter().filter(|withheld| withheld.release_id == release_id);
    let named = || pipeline.registry.name(release_id).map(|named| named.projector).unwrap_or_default();
    let issued: Vec<NotificationContent> = issued.filter_map(NotificationContent::recorded).collect();
    let withheld: HashSet<Uuid> = withheld.map(|withheld| withheld.notification_id).collect();
    let known = issued.len() + withheld.len();
    let (projector, outcome, is_incomplete) = match recorded {
        // The first projection returned nothing, so these notifications come from a redrive.
        Some(projection) if projection.count == 0 && known > 0 => {
            (projection.projector.clone(), Outcome::Notifications, false)
        }
        Some(projection) => (projection.projector.clone(), projection.outcome, known < projection.count),
        None => (named(), Outcome::Notifications, false),
    };
    RecordedResult { projector, outcome, issued, withheld, is_incomplete }
}

fn compare(then: RecordedResult, release: String, release_id: i64, now: &ProjectionResult) -> Rerun {
    let (before, after) = (then.outcome, outcome(now));
    let content: &[NotificationContent] = now.as_deref().unwrap_or_default();
    let mut differences: Vec<Differing> = pairs(&then.issued, content)
        .filter_map(|pair| match pair {
            Pair::Same(_) => None,
            Pair::Added(content) if then.withheld.contains(&content.id) => None,
            Pair::Added(content) => Some((content.id, Difference::Added, Vec::new())),
            Pair::Removed(content) => Some((content.id, Difference::Removed, Vec::new())),
            Pair::Changed { after, fields, .. } => Some((after.id, Difference::Changed, fields)),
        })
        .map(|(notification_id, difference, fields)| Differing { notification_id, difference, fields })
        .collect();
    let gone = then.withheld.iter().filter(|id| !content.iter().any(|content| content.id == **id));
    differences.extend(gone.map(|id| Differing {
        notification_id: *id,
        difference: Difference::Removed,
        fields: Vec::new(),
    }));
    let was_asked = !matches!(before, Outcome::Paused | Outcome::Suspended);
    let can_be_told = was_asked && is_its_own(before) && is_its_own(after) && !then.is_incomplete;
    let same = can_be_told.then(|| before == after && differences.is_empty());
    Rerun { projector: then.projector, release, release_id, then: before, now: after, same, differences }
}
