use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// TeacherNotificationRequestedV1 of the platform's contract: the data of a notification's envelope.
///
/// `P` is the representation of the payload, which is a JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct TeacherNotificationRequestedV1<'a, P> {
    /// The recipient.
    pub teacher_id: Cow<'a, str>,
    /// The kind of notification.
    pub notification_type: Cow<'a, str>,
    /// The area that it belongs to.
    pub category: Cow<'a, str>,
    /// Its priority.
    pub priority: Cow<'a, str>,
    /// What the client shows.
    pub payload: P,
    /// Whether the recipient has to act.
    pub action_required: bool,
    /// When the recipient has to have acted, as an RFC 3339 time.
    pub deadline_timestamp: Option<Cow<'a, str>>,
    /// The correlation id of the event that caused it.
    pub correlation_id: Cow<'a, str>,
    /// The batch that it is about.
    pub batch_id: Option<Cow<'a, str>>,
    /// The class that it is about.
    pub class_id: Option<Cow<'a, str>>,
    /// When its cause happened, as an RFC 3339 time.
    pub timestamp: Cow<'a, str>,
}

/// TeacherNotificationRequestedV1 as other producers may have written it: any field may be absent or null, and fields that
/// only have to be compared may have any type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of TeacherNotificationRequestedV1")]
pub struct ForeignTeacherNotification<'a> {
    #[serde(borrow)]
    pub teacher_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub notification_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub category: Option<&'a RawValue>,
    #[serde(borrow)]
    pub priority: Option<&'a RawValue>,
    #[serde(borrow)]
    pub payload: Option<&'a RawValue>,
    #[serde(borrow)]
    pub action_required: Option<&'a RawValue>,
    #[serde(borrow)]
    pub deadline_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    pub correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub batch_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub class_id: Option<&'a RawValue>,
}
