use std::fmt;

use serde::{Deserialize, Serialize};

/// The outcome of an event at one projector, or of a text that is not an event.
///
/// Metric labels, causes of dead letters and expectations of test cases use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The projector returned notifications, possibly none.
    Notifications,
    /// The projector rejected the event because it cannot interpret it.
    Rejected,
    /// The projector crashed.
    Trapped,
    /// The projector did not answer within its deadline.
    TimedOut,
    /// The projector requested more memory than its class allows.
    MemoryLimit,
    /// The projector requested more table elements than its class allows.
    TableLimit,
    /// The answer was too large, or had too many notifications.
    OutputLimit,
    /// The projector wrote too many log lines.
    LogLimit,
    /// The answer violates the contract.
    InvalidOutput,
    /// The answer uses a feature of the contract that this host does not implement.
    UnsupportedFeature,
    /// The projector was not called: its release was suspended, and there is no release to roll back to.
    Suspended,
    /// The projector was not called: an operator paused it.
    Paused,
    /// The database cannot store the event or the projector's answer.
    Unstorable,
    /// The text is JSON but not an event.
    Malformed,
    /// An event with this id and different content was accepted before.
    Conflict,
    /// The bytes are not JSON.
    Undecodable,
}

impl Outcome {
    /// Returns the name that metrics and dead letters use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::Rejected => "rejected",
            Self::Trapped => "trapped",
            Self::TimedOut => "timed-out",
            Self::MemoryLimit => "memory-limit",
            Self::TableLimit => "table-limit",
            Self::OutputLimit => "output-limit",
            Self::LogLimit => "log-limit",
            Self::InvalidOutput => "invalid-output",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::Suspended => "suspended",
            Self::Paused => "paused",
            Self::Unstorable => "unstorable",
            Self::Malformed => "malformed",
            Self::Conflict => "conflict",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
