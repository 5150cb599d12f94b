use belfry_model::TeacherNotificationRequestedV1;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::client::replay_report::SampleField;

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
pub(in crate::client) struct Reruns {
    pub(in crate::client) reruns: Vec<Rerun>,
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
