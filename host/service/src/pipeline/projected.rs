use std::sync::Arc;
use std::time::Duration;

use belfry_model::{Message, Notification, Outcome};

use crate::diff::{NotificationContent, ProjectionResult};
use crate::releases::LoadedRelease;
use crate::releases::trial::Side;

/// The result of one projector for one event.
pub(super) struct Projected {
    pub(super) active: Arc<LoadedRelease>,
    pub(super) answer: Result<Vec<(Notification, Message)>, NotProjected>,
    /// How long the projection took.
    pub(super) took: Duration,
    /// Whether it failed because of the host.
    pub(super) starved: bool,
}

impl Projected {
    /// Returns whether it failed. A rejection is not a failure.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.outcome(), Outcome::Notifications | Outcome::Rejected)
    }

    /// Adds the result to a tally, unless the host is to blame for it: then it does not reflect on the release.
    pub(super) fn note(&self, side: &mut Side) {
        if self.starved {
            return;
        }
        side.note(self.outcome(), self.answer.as_ref().map_or(0, Vec::len), self.took);
    }

    /// Returns the result in the form that a shadow's answer is compared with.
    pub(super) fn content(&self) -> ProjectionResult {
        match &self.answer {
            Ok(made) => {
                Ok(made.iter().map(|(notification, _)| NotificationContent::from(notification.clone())).collect())
            }
            Err(failed) => Err(failed.outcome),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match &self.answer {
            Ok(_) => Outcome::Notifications,
            Err(failed) => failed.outcome,
        }
    }
}

/// Why a projector made nothing of an event, as recorded in its dead letter.
pub(super) struct NotProjected {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}
