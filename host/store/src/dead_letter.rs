//! Dead letters: events that projectors could not project and records that sources could not read, pending or settled.

use uuid::Uuid;

use crate::{NewNotification, Origin};

/// An event that a projector could not project, or a record that is not a new event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The event's id; `None` if it could not be read.
    pub event_id: Option<Uuid>,
    /// The projector; `None` if no projector received the event.
    pub projector: Option<String>,
    /// The projector's release.
    pub release_id: Option<i64>,
    /// Where the record was read; `None` for an event.
    pub origin: Option<Origin>,
    /// The record's bytes; `None` in lists, and for an event, whose bytes are in the log.
    pub payload: Option<Vec<u8>>,
    /// A code of [`belfry_model::Outcome`].
    pub cause: String,
    /// A description for operators.
    pub detail: String,
    /// When it was recorded, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// How it was settled; `None` while it is pending.
    pub settled: Option<Settled>,
}

/// How a dead letter was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `redriven` or `discarded`.
    pub how: String,
    /// Who settled it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Why it was discarded.
    pub reason: Option<String>,
    /// The position of the first notification that the redrive appended to the log, and their number; `None` if there
    /// are none.
    pub notifications: Option<(i64, u32)>,
}

/// Selects the pending dead letters that match all fields that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// The number of the dead letter.
    pub id: Option<i64>,
    /// The projector.
    pub projector: Option<String>,
    /// The release.
    pub release_id: Option<i64>,
    /// The cause.
    pub cause: Option<String>,
    /// The code at the beginning of a rejection's detail.
    pub code: Option<String>,
    /// The earliest time of recording, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
}

/// Pending dead letters that have the same projector, release, cause and code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// The projector; `None` if no projector received the events.
    pub projector: Option<String>,
    /// The release.
    pub release_id: Option<i64>,
    /// A code of [`belfry_model::Outcome`].
    pub cause: String,
    /// The code at the beginning of a rejection's detail; `None` for other causes.
    pub code: Option<String>,
    /// Number of dead letters.
    pub count: i64,
    /// When the first of them was recorded, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// When the last of them was recorded, in milliseconds since the Unix epoch.
    pub last_ms: i64,
    /// The number of the last of them.
    pub last_id: i64,
}

/// A redrive: another attempt to project the event of a dead letter.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// The number of the dead letter.
    pub id: i64,
    /// The id of its event, which is already in the log.
    pub event: Uuid,
    /// The outcome of the attempt.
    pub outcome: RedriveOutcome,
    /// Who requested it.
    pub by: String,
}

/// The outcome of the attempt of a redrive.
#[derive(Clone, Debug)]
pub enum RedriveOutcome {
    /// The projector returned these notifications, possibly none.
    Notifications {
        /// In the order in which they are appended to the log.
        notifications: Vec<NewNotification>,
        /// Whether all of them are withheld as muted.
        muted: bool,
    },
    /// The release that serves now cannot project the event either: the dead letter stays pending.
    StillDead {
        /// The release.
        release_id: i64,
        /// A code of [`belfry_model::Outcome`].
        cause: &'static str,
        /// A description for operators.
        detail: String,
    },
}

/// The result of a redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// For each notification, in order: its position in the log, or the reason why it is withheld.
    Notified(Vec<Result<i64, &'static str>>),
    /// The dead letter stays pending.
    StillDead,
    /// Another request settled the dead letter in the meantime: nothing was changed.
    Settled,
}
