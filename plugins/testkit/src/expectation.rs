use belfry_model::{Notification, Outcome, Priority, format_instant_ms, parse_instant_ms};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::Json;

/// The result that a case expects of a rule; also represents the actual result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// These notifications, in this order. The list may be empty.
    Notifications(Vec<ExpectedNotification>),
    /// The rule rejects the event.
    Rejection(ExpectedRejection),
    /// The rule fails with this outcome.
    #[serde(deserialize_with = "failure")]
    Outcome(Outcome),
}

/// A rejection. Its reason is for people and is not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedRejection {
    /// The code, in kebab-case.
    pub code: String,
}

/// A notification. Fields with their default value are omitted when it is serialized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct ExpectedNotification {
    pub recipient: String,
    pub notification_type: String,
    pub category: String,
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub action_required: bool,
    /// RFC 3339 in UTC; other zones are converted when it is parsed.
    #[serde(default, deserialize_with = "instant", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Has the same format as `deadline`.
    #[serde(default, deserialize_with = "instant", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(deserialize_with = "object")]
    pub payload: Json,
}

impl Expectation {
    /// Returns the outcome.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Notifications(_) => Outcome::Notifications,
            Self::Rejection(_) => Outcome::Rejected,
            Self::Outcome(outcome) => *outcome,
        }
    }
}

impl ExpectedNotification {
    /// Returns all fields, including defaults, so that a difference shows the rule's actual value.
    pub(crate) fn in_full(&self) -> Json {
        #[derive(Serialize)]
        struct InFull<'a> {
            recipient: &'a str,
            notification_type: &'a str,
            category: &'a str,
            priority: Priority,
            key: &'a str,
            action_required: bool,
            deadline: Option<&'a str>,
            batch_id: Option<&'a str>,
            class_id: Option<&'a str>,
            thread: Option<&'a str>,
            expires_at: Option<&'a str>,
            payload: &'a Json,
        }
        Json::of(&InFull {
            recipient: &self.recipient,
            notification_type: &self.notification_type,
            category: &self.category,
            priority: self.priority,
            key: &self.key,
            action_required: self.action_required,
            deadline: self.deadline.as_deref(),
            batch_id: self.batch_id.as_deref(),
            class_id: self.class_id.as_deref(),
            thread: self.thread.as_deref(),
            expires_at: self.expires_at.as_deref(),
            payload: &self.payload,
        })
    }
}

impl From<&Notification> for ExpectedNotification {
    fn from(notification: &Notification) -> Self {
        Self {
            recipient: notification.recipient.clone(),
            notification_type: notification.notification_type.clone(),
            category: notification.category.clone(),
            priority: notification.priority,
            key: notification.key.clone(),
            action_required: notification.action_required,
            deadline: notification.deadline.clone(),
            batch_id: notification.batch_id.clone(),
            class_id: notification.class_id.clone(),
            thread: notification.thread.clone(),
            expires_at: notification.expires_at_ms.map(instant_text),
            payload: serde_json::from_str(&notification.payload).expect("an accepted payload is a JSON object"),
        }
    }
}

fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
    let json = Box::<RawValue>::deserialize(deserializer)?;
    if json.get().starts_with('{') {
        serde_json::from_str(json.get()).map_err(D::Error::custom)
    } else {
        Err(D::Error::custom("a payload must be a JSON object"))
    }
}

/// Formats a time. A number outside of the calendar is shown unchanged, since the contract allows any number.
fn instant_text(ms: i64) -> String {
    format_instant_ms(ms).unwrap_or_else(|_| format!("{ms} ms since 1970"))
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_instant_ms(&text).and_then(format_instant_ms).map_err(D::Error::custom)).transpose()
}

fn failure<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
    match Outcome::deserialize(deserializer)? {
        Outcome::Notifications => Err(D::Error::custom("expect `notifications` instead of this outcome")),
        Outcome::Rejected => Err(D::Error::custom("expect a `rejection` with its code instead of this outcome")),
        outcome @ (Outcome::Suspended
        | Outcome::Paused
        | Outcome::Malformed
        | Outcome::Conflict
        | Outcome::Undecodable) => {
            Err(D::Error::custom(format!("`{outcome}` applies to events before any rule sees them")))
        }
        outcome => Ok(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out_and_read_back() {
        let text = r#"{"notifications":[{"recipient":"a","notification_type":"b","category":"c","priority":"low","payload":{}}]}"#;
        let expectation: Expectation = serde_json::from_str(text).expect("an expectation");
        assert_eq!(serde_json::to_string(&expectation).expect("JSON"), text);
    }

    #[test]
    fn instants_are_compared_as_times() {
        let with_deadline = |deadline: &str| {
            let text = format!(
                r#"{{"recipient":"a","notification_type":"b","category":"c","priority":"low","payload":{{}},"deadline":{deadline}}}"#
            );
            serde_json::from_str::<ExpectedNotification>(&text)
        };
        let utc = with_deadline(r#""2026-03-03T09:15:02Z""#).expect("a notification");
        assert_eq!(utc, with_deadline(r#""2026-03-03T10:15:02.000+01:00""#).expect("a notification"));
        assert_eq!(with_deadline("null").expect("a notification").deadline, None);
        assert!(with_deadline(r#""tomorrow""#).is_err());
    }
}
