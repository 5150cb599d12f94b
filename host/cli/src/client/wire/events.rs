use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::client::Problem;

/// The answer to an event that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// Its line in the body, from 1; `None` if it was sent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The event's id, if it could be read.
    pub event_id: Option<Uuid>,
    /// The outcome.
    pub status: PublishStatus,
    /// Its position in the log.
    pub position: Option<i64>,
    /// Notifications that result from it.
    #[serde(default)]
    pub notifications: Vec<PublishedNotification>,
    /// Rules that could not project it.
    #[serde(default)]
    pub dead_letters: Vec<PublishedDeadLetter>,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The outcome of publishing an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishStatus {
    /// Recorded.
    Accepted,
    /// Recorded before; it has no second effect.
    Duplicate,
    /// Not an event.
    Malformed,
    /// Another event was recorded under its id.
    Conflict,
    /// Larger than the maximum size of an event.
    TooLarge,
    /// Not accepted now; it may be sent again.
    Overloaded,
    /// A status unknown to this client; see the problem.
    #[serde(other)]
    Refused,
}

impl PublishStatus {
    /// Returns the status as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
        }
    }

    /// Returns true if the event is not in the log.
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Accepted | Self::Duplicate)
    }
}

/// A notification that results from a published event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedNotification {
    /// The notification's id.
    pub event_id: Uuid,
    /// The rule that made it.
    pub projector: String,
    /// The recipient.
    pub recipient: String,
}

/// A rule that could not project a published event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedDeadLetter {
    /// The dead letter's number.
    pub id: i64,
    /// The rule.
    pub projector: String,
    /// The cause, from the vocabulary of outcomes.
    pub cause: String,
}

/// An event and everything that resulted from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventHistory {
    /// The event's id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its position in the log.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: String,
    /// Where it was read, such as `TOPIC/PARTITION@OFFSET`, if it was not posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its envelope, as received.
    pub event: Option<Box<RawValue>>,
    /// Its projection by each rule.
    pub projections: Option<Vec<Projection>>,
    /// The notifications in the log.
    #[serde(default)]
    pub notifications: Vec<IssuedNotification>,
    /// The notifications that were not sent.
    #[serde(default)]
    pub withheld: Vec<WithheldNotification>,
    /// Rules that could not project it.
    #[serde(default)]
    pub dead_letters: Vec<DeadLetter>,
}

/// The projection of an event by a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// The rule.
    pub projector: String,
    /// The release's label.
    #[serde(default)]
    pub release: String,
    /// The release's number.
    pub release_id: i64,
    /// The outcome, from the vocabulary of outcomes.
    pub outcome: String,
    /// The number of notifications that it returned.
    #[serde(default)]
    pub count: u64,
}

/// A notification in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuedNotification {
    /// Its id.
    pub event_id: Uuid,
    /// Its position in the log.
    pub position: i64,
    /// The rule that made it.
    pub projector: String,
    /// The release's label.
    pub release: String,
    /// The recipient.
    pub recipient: String,
    /// Its envelope; see [`Message::parse`](super::Message::parse).
    pub message: Option<Box<RawValue>>,
}

/// A notification that was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldNotification {
    /// Its id.
    pub event_id: Uuid,
    /// The rule that made it.
    pub projector: String,
    /// The release's label.
    pub release: String,
    /// The intended recipient.
    pub recipient: String,
    /// Why it was withheld, such as `expired`.
    pub reason: String,
    /// When it was withheld.
    pub decided_at: String,
}

/// A rule that could not project an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The rule; `None` if the event reached no rule.
    pub projector: Option<String>,
    /// The release's label.
    pub release: Option<String>,
    /// For a record from a source: topic, partition and offset.
    #[serde(default)]
    pub source: Option<String>,
    /// The cause, from the vocabulary of outcomes.
    pub cause: String,
    /// The cause in words.
    pub detail: String,
    /// When it was recorded.
    pub created_at: String,
}
