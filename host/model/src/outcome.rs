use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of an event at one projector, or of a text that is no event.
///
/// The same words name metric labels, dead letters' causes and what test cases expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The projector answered; an empty list counts.
    Notifications,
    /// The projector says that it cannot make sense of the event.
    Rejected,
    /// The projector crashed.
    Trapped,
    /// The projector did not answer within its deadline.
    TimedOut,
    /// The projector wanted more memory than its class allows.
    MemoryLimit,
    /// The projector wanted more table elements than its class allows.
    TableLimit,
    /// The answer was too large, or had too many notifications.
    OutputLimit,
    /// The projector wrote too many log lines.
    LogLimit,
    /// The answer breaks a rule of the contract.
    InvalidOutput,
    /// The answer uses a feature of the contract that this host does not carry out.
    UnsupportedFeature,
    /// The projector was not asked: its release was taken out, and there is none to go back to.
    Suspended,
    /// The projector was not asked: an operator has brought it to a halt.
    Paused,
    /// The database cannot hold the event or the projector's answer.
    Unstorable,
    /// The text is JSON but not an event.
    Malformed,
    /// An event with this id and other content was taken before.
    Conflict,
    /// The bytes are not JSON.
    Undecodable,
}

impl Outcome {
    /// The word for it, as metrics and dead letters carry it.
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
