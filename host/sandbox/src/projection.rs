use std::time::Duration;

use belfry_model::{Notification, Outcome};

use crate::LogLine;

/// What became of one event at one projector.
#[derive(Debug)]
pub struct Projection {
    /// The answer, or why there is none.
    pub answer: Answer,
    /// What the guest wrote, in order. May quote the event: for the rule's developers, not for the service's log.
    pub log: Vec<LogLine>,
    /// Where the time went.
    pub timings: Timings,
    /// Whether it ran out of time without having had the processor for as long as any guest may: the host's fault, not the
    /// guest's.
    pub starved: bool,
}

impl Projection {
    /// The word for it.
    pub fn outcome(&self) -> Outcome {
        match &self.answer {
            Answer::Notifications(_) => Outcome::Notifications,
            Answer::Rejected(_) => Outcome::Rejected,
            Answer::Failed(failure) => failure.outcome,
        }
    }

    /// The same as a failure of the host's: the guest had the processor only for so long.
    pub(crate) fn into_starved(mut self, had: Duration) -> Self {
        if let Answer::Failed(Failure { detail, .. }) = &mut self.answer {
            // What the guest could do about it does not help.
            let what = detail.split(';').next().unwrap_or_default();
            *detail = format!("{what}; it had the processor for {} ms only: this host is too busy", had.as_millis());
        }
        self.starved = true;
        self
    }
}

/// A projector's answer.
#[derive(Debug)]
pub enum Answer {
    /// These, each within the contract.
    Notifications(Vec<Notification>),
    /// It cannot make sense of the event.
    Rejected(Rejection),
    /// It gave none that could be used.
    Failed(Failure),
}

/// The projector's own words for why it cannot make sense of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// In kebab-case, to group by.
    pub code: String,
    /// For operators; may quote the event.
    pub reason: String,
}

/// Why a guest gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{outcome}: {detail}")]
pub struct Failure {
    /// What kind of failure.
    pub outcome: Outcome,
    /// What happened and what to do. Quotes nothing of the event.
    pub detail: String,
}

/// Where a call's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Making the store and the instance.
    pub instantiate: Duration,
    /// Lowering the event, running the guest, lifting its answer.
    pub call: Duration,
    /// Taking the instance down.
    pub drop: Duration,
    /// Memory that the guest had in the end, in bytes.
    pub memory_bytes: usize,
}
