//! Projects events without any effect, to compare what releases make of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use belfry_model::{Cause, Envelope, Event, Message, MessageSettings, Outcome};
use belfry_sandbox::{Answer, Caller, Failure};

use crate::diff::{NotificationContent, ProjectionResult};
use crate::releases::LoadedRelease;

/// Projects an event with a release. Records and sends nothing, and does not count towards the release's health.
pub(crate) fn project(
    active: &LoadedRelease,
    envelope: &Arc<Envelope>,
    event: &Event,
    messages: &MessageSettings,
) -> ProjectionResult {
    let Some(projector) = &active.projector else { return Err(Outcome::Suspended) };
    // A fault of the host around a rule counts as a fault of the rule.
    let call = || projector.project_for(Caller::Beside, &active.configuration, envelope, event);
    let Ok(projection) = catch_unwind(AssertUnwindSafe(call)) else { return Err(Outcome::Trapped) };
    let notifications = match projection.answer {
        Answer::Notifications(notifications) => notifications,
        Answer::Rejected(_) => return Err(Outcome::Rejected),
        Answer::Failed(Failure { outcome, .. }) => return Err(outcome),
    };
    let cause = Cause { projector: &active.name, release: &active.label };
    for notification in &notifications {
        Message::finish(notification, envelope, cause, messages).map_err(|refusal| refusal.outcome)?;
    }
    Ok(notifications.into_iter().map(NotificationContent::from).collect())
}
