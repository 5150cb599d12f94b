//! What is known about a log entry beyond the log: its state at each sink, and who activated its release.

use crate::submission::WITHHELD_OFF;

/// The state of an entry at a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The sink.
    pub sink: String,
    /// The state.
    pub state: DeliveryState,
    /// The latest time at which the sink can have acknowledged it, or the time at which it was withheld or discarded,
    /// in milliseconds since the Unix epoch; `None` if unknown.
    pub at_ms: Option<i64>,
    /// Why the sink refused it, or who discarded it and why.
    pub detail: Option<String>,
}

/// What happened to an entry at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The sink has acknowledged it.
    Acknowledged,
    /// It had expired by the time it was to be sent.
    Expired,
    /// It has not been sent yet.
    Waiting,
    /// The sink refused it, or it is queued behind an entry that the sink refused.
    Parked,
    /// An operator decided that it is never sent.
    Discarded,
    /// It was recorded before the sink existed, or while the sink was off.
    BeforeTheSink,
}

impl DeliveryState {
    /// Returns the name of the state in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Expired => "expired",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
            Self::BeforeTheSink => "before-the-sink",
        }
    }
}

/// Who activated a release, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Who activated it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether it was activated as a canary, for a share of the subjects only, and not for all subjects since.
    pub canary: bool,
}

/// A sink's row, with the state of one entry.
pub(crate) struct DeliveryRow {
    pub(crate) sink: String,
    pub(crate) reached: bool,
    pub(crate) before_the_sink: bool,
    /// When it was acknowledged at the latest, or when it was withheld; `None` if unknown.
    pub(crate) settled_ms: Option<i64>,
    /// Why it was withheld, if it was.
    pub(crate) withheld: Option<String>,
    pub(crate) parked: Option<String>,
    pub(crate) discarded_ms: Option<i64>,
    pub(crate) discarded_by: Option<String>,
    pub(crate) reason: Option<String>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        let DeliveryRow { sink, reached, before_the_sink, settled_ms, withheld, parked, .. } = row;
        let said = |state, at_ms, detail| Self { sink, state, at_ms, detail };
        if row.discarded_ms.is_some() {
            let by = row.discarded_by.unwrap_or_else(|| "an unknown operator".to_owned());
            let detail = row.reason.map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
            return said(DeliveryState::Discarded, row.discarded_ms, Some(detail));
        }
        let before_the_sink = before_the_sink || withheld.as_deref() == Some(WITHHELD_OFF);
        match (parked, before_the_sink, reached) {
            (Some(error), ..) => said(DeliveryState::Parked, None, Some(error)),
            (None, true, _) => said(DeliveryState::BeforeTheSink, None, None),
            (None, false, true) if withheld.is_some() => said(DeliveryState::Expired, settled_ms, None),
            (None, false, true) => said(DeliveryState::Acknowledged, settled_ms, None),
            (None, false, false) => said(DeliveryState::Waiting, None, None),
        }
    }
}
