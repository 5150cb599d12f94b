use std::time::Duration;

use belfry_model::{Notification, Outcome};

use crate::{Failure, LogLine};

/// The result of one event at one projector.
#[derive(Debug)]
pub struct Projection {
    /// The answer, or the reason why there is none.
    pub answer: Answer,
    /// Log lines of the guest, in order. They may quote the event, so they are for the rule's developers and not for
    /// the service's log.
    pub log: Vec<LogLine>,
    /// How long the parts of the call took.
    pub timings: Timings,
    /// Whether the guest timed out although it did not get as much processor time as any guest may use. This is the
    /// host's fault, not the guest's.
    pub starved: bool,
}

impl Projection {
    /// Returns the outcome.
    pub fn outcome(&self) -> Outcome {
        match &self.answer {
            Answer::Notifications(_) => Outcome::Notifications,
            Answer::Rejected(_) => Outcome::Rejected,
            Answer::Failed(failure) => failure.outcome,
        }
    }

    /// Marks the projection as a failure of the host: the guest got only the processor time `had`.
    pub(crate) fn into_starved(mut self, had: Duration) -> Self {
        if let Answer::Failed(Failure { detail, .. }) = &mut self.answer {
            // The advice to the author does not apply.
            let what = detail.split(';').next().unwrap_or_default();
            *detail = format!("{what}; it got only {} ms of processor time: this host is too busy", had.as_millis());
        }
        self.starved = true;
        self
    }
}

/// A projector's answer.
#[derive(Debug)]
pub enum Answer {
    /// Notifications, each of which satisfies the contract.
    Notifications(Vec<Notification>),
    /// The projector rejected the event.
    Rejected(Rejection),
    /// There is no usable answer.
    Failed(Failure),
}

/// The projector's reason for rejecting an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The code in kebab-case, by which rejections are grouped.
    pub code: String,
    /// The explanation for operators; may quote the event.
    pub reason: String,
}

/// How long the parts of a call took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Creating the store and the instance.
    pub instantiate: Duration,
    /// Lowering the event, running the guest, lifting its answer.
    pub call: Duration,
    /// Dropping the instance.
    pub drop: Duration,
    /// The guest's memory at the end of the call, in bytes.
    pub memory_bytes: usize,
}
