//! What Belfry says over HTTP. Fields that a newer Belfry adds are ignored.

use belfry_sandbox::{AdmissionReport, Description};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Problem;
use super::replay_report::SampleField;

/// What became of an event that was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// Which line of the body it was, from 1; none if it was sent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The event's id, if it could be read.
    pub event_id: Option<Uuid>,
    /// What became of it.
    pub status: PublishStatus,
    /// Its position in the log.
    pub position: Option<i64>,
    /// Notifications that follow from it.
    #[serde(default)]
    pub notifications: Vec<PublishedNotification>,
    /// Rules that could not project it.
    #[serde(default)]
    pub dead_letters: Vec<PublishedDeadLetter>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What became of an event that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishStatus {
    /// Recorded.
    Accepted,
    /// Recorded before; it has no second effect.
    Duplicate,
    /// Not an event.
    Malformed,
    /// Another event was taken under its id.
    Conflict,
    /// Larger than an event may be.
    TooLarge,
    /// Not taken now; it may be sent again.
    Overloaded,
    /// Something that this client does not know; see the problem.
    #[serde(other)]
    Refused,
}

impl PublishStatus {
    /// The word for it.
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

    /// True if the event is not in the log.
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Accepted | Self::Duplicate)
    }
}

/// A notification that follows from an event that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedNotification {
    /// The notification's id.
    pub event_id: Uuid,
    /// The rule that made it.
    pub projector: String,
    /// Who is notified.
    pub recipient: String,
}

/// A rule that could not project an event that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedDeadLetter {
    /// The dead letter's number.
    pub id: i64,
    /// The rule.
    pub projector: String,
    /// Why, in a word.
    pub cause: String,
}

/// An event and everything that came of it.
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
    /// Its envelope, as it arrived.
    pub event: Option<Box<RawValue>>,
    /// What each rule made of it.
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

/// What a rule made of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// The rule.
    pub projector: String,
    /// Its release, as people know it.
    #[serde(default)]
    pub release: String,
    /// The release's number.
    pub release_id: i64,
    /// How it ended, in a word.
    pub outcome: String,
    /// How many notifications it returned.
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
    /// The rule's release.
    pub release: String,
    /// Who is notified.
    pub recipient: String,
    /// Its envelope; see [`Message::parse`].
    pub message: Option<Box<RawValue>>,
}

/// A notification that was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldNotification {
    /// Its id.
    pub event_id: Uuid,
    /// The rule that made it.
    pub projector: String,
    /// The rule's release.
    pub release: String,
    /// Who would have been notified.
    pub recipient: String,
    /// Why not, in a word.
    pub reason: String,
    /// When that was decided.
    pub decided_at: String,
}

/// A rule that could not project an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The rule; none if no rule saw it.
    pub projector: Option<String>,
    /// The rule's release.
    pub release: Option<String>,
    /// Of a record that a source brought: topic, partition and offset.
    #[serde(default)]
    pub source: Option<String>,
    /// Why, in a word.
    pub cause: String,
    /// Why, in a sentence.
    pub detail: String,
    /// When it was recorded.
    pub created_at: String,
}

/// A notification and where it comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotificationHistory {
    /// Its id.
    pub event_id: Uuid,
    /// `issued` or `withheld`.
    pub status: String,
    /// Why it was withheld, in a word.
    pub reason: Option<String>,
    /// Its position in the log.
    pub position: Option<i64>,
    /// When that was recorded.
    pub recorded_at: String,
    /// Not sent after this.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The rule that made it.
    pub projector: String,
    /// The rule's release, as people know it.
    pub release: String,
    /// The release's number.
    pub release_id: i64,
    /// Who is notified.
    pub recipient: String,
    /// Its envelope, if it was issued; see [`Message::parse`].
    pub message: Option<Box<RawValue>>,
    /// The event behind it; none if that is no longer kept.
    pub cause: Option<NotificationCause>,
    /// The release that made it.
    pub made_by: Option<NotificationMaker>,
    /// How far each sink came with it.
    pub deliveries: Vec<NotificationDelivery>,
}

/// A release, as far as it explains what it made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API's document tells the fields")]
pub struct NotificationMaker {
    pub digest: String,
    pub config: Option<Box<RawValue>>,
    pub contract: Option<String>,
    pub note: String,
    pub pushed_by: String,
    pub pushed_at: String,
    pub activated_by: Option<String>,
    pub activated_at: Option<String>,
    pub canary: bool,
}

/// How far a sink came with a notification.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API's document tells the fields")]
pub struct NotificationDelivery {
    pub sink: String,
    pub state: String,
    pub at: Option<String>,
    pub detail: Option<String>,
}

/// Answer to a rerun.
#[derive(Deserialize)]
pub(super) struct Reruns {
    pub(super) reruns: Vec<Rerun>,
}

/// What a release made of an event, and what it makes of it now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API's document tells the fields")]
pub struct Rerun {
    pub projector: String,
    pub release: String,
    pub release_id: i64,
    pub then: String,
    pub now: String,
    pub same: Option<bool>,
    pub differences: Vec<RerunDifference>,
}

/// A notification that is not the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API's document tells the fields")]
pub struct RerunDifference {
    pub notification_id: Uuid,
    pub difference: String,
    pub fields: Vec<SampleField>,
}

/// The event behind a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationCause {
    /// The event's id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// When it happened, by its producer's clock.
    pub event_timestamp: String,
    /// The service that announced it.
    pub source_service: String,
    /// Ties together what one request set in motion.
    pub correlation_id: Uuid,
    /// The producer's trace, as W3C writes it.
    pub traceparent: Option<String>,
    /// Its position in the log.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: String,
}

/// A notification as its recipient gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The notification's id.
    pub event_id: Uuid,
    /// When its cause happened.
    pub event_timestamp: String,
    /// What it says.
    pub data: MessageData,
}

impl Message {
    /// Read a message from its envelope's text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The payload's `message`, if it has one that is text.
    pub fn text(&self) -> Option<&str> {
        self.data.payload.get("message")?.as_str()
    }
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageData {
    /// Who is notified.
    pub teacher_id: String,
    /// What kind of message it is.
    pub notification_type: String,
    /// The area it belongs to.
    pub category: String,
    /// How urgent it is.
    pub priority: String,
    /// What the client shows.
    pub payload: Map<String, Value>,
    /// True if the recipient has to do something.
    #[serde(default)]
    pub action_required: bool,
    /// By when.
    pub deadline_timestamp: Option<String>,
}

/// A build of a rule with its configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub release_id: i64,
    /// The rule's name.
    pub projector: String,
    /// The rule's version.
    pub version: String,
    /// How people know it, such as `teacher-results@1.0.0#1`.
    pub label: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Its configuration.
    pub config: Option<Box<RawValue>>,
    /// What the component says of itself.
    pub description: Option<Description>,
    /// Why it was made.
    pub note: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// Whether it serves.
    pub active: bool,
    /// What was found out about it before it was taken; none by an older Belfry.
    #[serde(default)]
    pub admission: Option<AdmissionReport>,
    /// Whose trusted key the component is signed with.
    #[serde(default)]
    pub signed_by: Option<String>,
}

/// An entry that a sink refused, or that stands behind one of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The sink that refused it.
    pub sink: String,
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key; empty if it has none.
    pub key: String,
    /// Why it is parked.
    pub error: String,
    /// What it blocks: `key` or `topic`.
    pub scope: String,
    /// Since when.
    pub parked_at: String,
    /// What was asked for and is not done yet: `unpark` or `discard`.
    pub request: Option<String>,
}

/// Which release serves a rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// The rule's name.
    pub name: String,
    /// The release that serves it.
    pub active: Release,
    /// The one that served it before.
    pub previous_release_id: Option<i64>,
    /// The one that was taken out by the last change.
    #[serde(default)]
    pub suspended_release_id: Option<i64>,
    /// Why it was.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why the rule is not asked now, if it is not.
    #[serde(default)]
    pub halted: Option<Halt>,
    /// What is tried beside it.
    #[serde(default)]
    pub candidate: Option<String>,
    /// Whether the rule is taken out for good.
    #[serde(default)]
    pub retired: bool,
}

/// Why a rule is not asked: its events become dead letters of this cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// `paused` or `suspended`.
    pub cause: String,
    /// In words.
    pub detail: String,
}

/// Something that is at a halt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `projector`, `sink` or `notifications`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who brought it there.
    pub paused_by: String,
    /// When.
    pub paused_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_status_is_a_refusal() {
        let text = r#"{"line":1,"event_id":null,"status":"unheard-of","position":null}"#;
        let published: Published = serde_json::from_str(text).expect("a line");
        assert_eq!(published.status, PublishStatus::Refused);
        assert!(published.status.is_refusal());
    }

    #[test]
    fn a_history_keeps_the_event_s_text() {
        let text = r#"{"event_id":"a25fb85b-a5b0-523c-993b-2dc42602b95d","event_type":"t","position":1,"recorded_at":"r","event":{"n": 1.50},"projections":null,"added_later":1}"#;
        let history: EventHistory = serde_json::from_str(text).expect("a history");
        assert_eq!(history.event.expect("an event").get(), r#"{"n": 1.50}"#);
    }

    #[test]
    fn a_message_s_text_is_its_payload_s() {
        let message = |payload: &str| {
            let text = format!(
                r#"{{"event_id":"fe17901f-b267-53fc-ab06-b54d181baae1","event_timestamp":"2026-03-02T09:15:01Z","data":{{"teacher_id":"a","notification_type":"b","category":"c","priority":"high","payload":{payload},"deadline_timestamp":null}}}}"#
            );
            Message::parse(&text).expect("a message")
        };
        assert_eq!(message(r#"{"message":"done"}"#).text(), Some("done"));
        assert_eq!(message(r#"{"message":1}"#).text(), None);
    }
}
