//! The types of Belfry's HTTP API. Fields that a newer Belfry adds are ignored.

use belfry_model::TeacherNotificationRequestedV1;
use belfry_sandbox::{AdmissionReport, Description};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Problem;
use super::replay_report::SampleField;

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

/// A notification and its origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotificationHistory {
    /// Its id.
    pub event_id: Uuid,
    /// `issued` or `withheld`.
    pub status: String,
    /// Why it was withheld, such as `expired`.
    pub reason: Option<String>,
    /// Its position in the log.
    pub position: Option<i64>,
    /// When it was issued or withheld.
    pub recorded_at: String,
    /// When it expires; it is not sent later.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The rule that made it.
    pub projector: String,
    /// The release's label.
    pub release: String,
    /// The release's number.
    pub release_id: i64,
    /// The recipient.
    pub recipient: String,
    /// Its envelope, if it was issued; see [`Message::parse`].
    pub message: Option<Box<RawValue>>,
    /// The event that caused it; `None` if that is no longer kept.
    pub cause: Option<NotificationCause>,
    /// The release that made it.
    pub made_by: Option<NotificationMaker>,
    /// Its delivery by each sink.
    pub deliveries: Vec<NotificationDelivery>,
}

/// The facts about a release that explain its notifications.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
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

/// The state of a notification's delivery by a sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct NotificationDelivery {
    pub sink: String,
    pub state: String,
    pub at: Option<String>,
    pub detail: Option<String>,
}

/// The answer to a rerun.
#[derive(Deserialize)]
pub(super) struct Reruns {
    pub(super) reruns: Vec<Rerun>,
}

/// The outcome of projecting an event with a release, then and now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct Rerun {
    pub projector: String,
    pub release: String,
    pub release_id: i64,
    pub then: String,
    pub now: String,
    pub same: Option<bool>,
    pub differences: Vec<RerunDifference>,
}

/// A notification that differs between the two projections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct RerunDifference {
    pub notification_id: Uuid,
    pub difference: String,
    pub fields: Vec<SampleField>,
}

/// The event that caused a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationCause {
    /// The event's id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// When it happened, by its producer's clock.
    pub event_timestamp: String,
    /// The service that produced it.
    pub source_service: String,
    /// Shared by everything that one request caused.
    pub correlation_id: Uuid,
    /// The producer's trace, in the W3C `traceparent` format.
    pub traceparent: Option<String>,
    /// Its position in the log.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: String,
}

/// A notification as its recipient receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The notification's id.
    pub event_id: Uuid,
    /// When its cause happened.
    pub event_timestamp: String,
    /// Its content.
    pub data: TeacherNotificationRequestedV1<'static, Map<String, Value>>,
}

impl Message {
    /// Parses a message from the text of its envelope.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the payload's `message`, if that is a text.
    pub fn text(&self) -> Option<&str> {
        self.data.payload.get("message")?.as_str()
    }
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
    /// Its label, such as `teacher-results@1.0.0#1`.
    pub label: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Its configuration.
    pub config: Option<Box<RawValue>>,
    /// The component's description of itself.
    pub description: Option<Description>,
    /// Why it was created.
    pub note: String,
    /// Who created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: String,
    /// Whether it is active.
    pub active: bool,
    /// The report of its admission; `None` if it was uploaded to an older Belfry.
    #[serde(default)]
    pub admission: Option<AdmissionReport>,
    /// The owner of the trusted key that the component is signed with.
    #[serde(default)]
    pub signed_by: Option<String>,
}

/// An entry that a sink refused, or that waits behind a refused entry of the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The sink.
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
    /// When it was parked.
    pub parked_at: String,
    /// The pending request, if any: `unpark` or `discard`.
    pub request: Option<String>,
}

/// A rule with its active release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// The rule's name.
    pub name: String,
    /// The active release.
    pub active: Release,
    /// The release that was active before.
    pub previous_release_id: Option<i64>,
    /// The release that was suspended by the last change.
    #[serde(default)]
    pub suspended_release_id: Option<i64>,
    /// Why it was suspended.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why the rule projects no events now, if so.
    #[serde(default)]
    pub halted: Option<Halt>,
    /// The label of the release on trial alongside it.
    #[serde(default)]
    pub candidate: Option<String>,
    /// Whether the rule is retired.
    #[serde(default)]
    pub retired: bool,
}

/// Why a rule projects no events: they become dead letters of this cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// `paused` or `suspended`.
    pub cause: String,
    /// The cause in words.
    pub detail: String,
}

/// A pause of a rule, a sink or all notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `projector`, `sink` or `notifications`.
    pub kind: String,
    /// The name of the rule or sink.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// Who paused it.
    pub paused_by: String,
    /// When it was paused.
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
                r#"{{"event_id":"fe17901f-b267-53fc-ab06-b54d181baae1","event_timestamp":"2026-03-02T09:15:01Z","data":{{"teacher_id":"a","notification_type":"b","category":"c","priority":"high","payload":{payload},"action_required":false,"deadline_timestamp":null,"correlation_id":"d","batch_id":null,"class_id":null,"timestamp":"t"}}}}"#
            );
            Message::parse(&text).expect("a message")
        };
        assert_eq!(message(r#"{"message":"done"}"#).text(), Some("done"));
        assert_eq!(message(r#"{"message":1}"#).text(), None);
    }
}
