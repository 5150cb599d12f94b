//! The notifications that a rule makes of an event, in a form in which two releases can be compared with each other, or a
//! release with the log.

use std::borrow::Cow;
use std::collections::HashMap;

use belfry_model::{Notification, Outcome, TeacherNotificationRequestedV1, canonical_json, without_whitespace};
use belfry_store::LogEntry;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

/// One notification. Its id is derived from event, projector, recipient, type and key, so two with the same id are the same
/// notification, whatever their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotificationContent {
    pub(crate) id: Uuid,
    pub(crate) recipient: String,
    pub(crate) notification_type: String,
    pub(crate) category: String,
    pub(crate) priority: String,
    /// A JSON object, as text.
    pub(crate) payload: String,
    pub(crate) action_required: bool,
    pub(crate) deadline: Option<String>,
    pub(crate) batch_id: Option<String>,
    pub(crate) class_id: Option<String>,
    pub(crate) thread: Option<String>,
    pub(crate) expires_at_ms: Option<i64>,
}

/// The result for an event: notifications, or why there are none.
pub(crate) type ProjectionResult = Result<Vec<NotificationContent>, Outcome>;

/// A field in which two notifications with the same id differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FieldChange {
    /// The field's name; within the payload, `payload.NAME`.
    pub(crate) field: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

impl FieldChange {
    /// Returns the field's name, or `payload` for any field within the payload.
    pub(crate) fn field_of_notification(self) -> String {
        if self.field.starts_with("payload.") { "payload".to_owned() } else { self.field }
    }
}

impl From<Notification> for NotificationContent {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id,
            recipient: notification.recipient,
            notification_type: notification.notification_type,
            category: notification.category,
            priority: notification.priority.as_str().to_owned(),
            payload: notification.payload,
            action_required: notification.action_required,
            deadline: notification.deadline,
            batch_id: notification.batch_id,
            class_id: notification.class_id,
            thread: notification.thread,
            expires_at_ms: notification.expires_at_ms,
        }
    }
}

/// A recorded message, without its envelope.
#[derive(Deserialize)]
struct RecordedMessage<'a> {
    #[serde(borrow)]
    data: TeacherNotificationRequestedV1<'a, &'a RawValue>,
    #[serde(default)]
    metadata: RecordedMetadata,
}

#[derive(Default, Deserialize)]
struct RecordedMetadata {
    belfry: Option<RecordedProvenance>,
}

#[derive(Deserialize)]
struct RecordedProvenance {
    thread: Option<String>,
}

impl NotificationContent {
    /// Returns the notification as recorded in the log; `None` if its message cannot be parsed.
    pub(crate) fn recorded(entry: &LogEntry) -> Option<Self> {
        let RecordedMessage { data, metadata } = serde_json::from_slice(&entry.payload).ok()?;
        Some(Self {
            id: entry.event_id,
            recipient: entry.event_key.clone(),
            notification_type: data.notification_type.into_owned(),
            category: data.category.into_owned(),
            priority: data.priority.into_owned(),
            payload: data.payload.get().to_owned(),
            action_required: data.action_required,
            deadline: data.deadline_timestamp.map(Cow::into_owned),
            batch_id: data.batch_id.map(Cow::into_owned),
            class_id: data.class_id.map(Cow::into_owned),
            thread: metadata.belfry.and_then(|belfry| belfry.thread),
            expires_at_ms: entry.expires_at_ms,
        })
    }

    /// Returns the fields in which another notification with the same id differs.
    pub(crate) fn changes(&self, after: &Self) -> Vec<FieldChange> {
        if self == after {
            return Vec::new();
        }
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
        let fields: [(&str, Value, Value); 7] = [
            ("category", self.category.clone().into(), after.category.clone().into()),
            ("priority", self.priority.clone().into(), after.priority.clone().into()),
            ("action_required", self.action_required.into(), after.action_required.into()),
            ("deadline", text(&self.deadline), text(&after.deadline)),
            ("batch_id", text(&self.batch_id), text(&after.batch_id)),
            ("class_id", text(&self.class_id), text(&after.class_id)),
            ("thread", text(&self.thread), text(&after.thread)),
        ];
        let mut changes: Vec<FieldChange> = fields
            .into_iter()
            .filter(|(_, before, after)| before != after)
            .map(|(field, before, after)| FieldChange { field: field.to_owned(), before, after })
            .collect();
        if self.expires_at_ms != after.expires_at_ms {
            let (before, after) = (self.expires_at_ms.into(), after.expires_at_ms.into());
            changes.push(FieldChange { field: "expires_at_ms".into(), before, after });
        }
        changes.extend(payload_changes(&self.payload, &after.payload));
        changes
    }
}

/// Compares payloads. Numbers are compared by their exact value, as in the test cases of rules: `28` equals `28.0`.
fn payload_changes(before: &str, after: &str) -> Vec<FieldChange> {
    if before == after {
        return Vec::new();
    }
    // A payload is checked to be an object when it is accepted.
    let names = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).unwrap_or_default();
    let fields = |text| serde_json::from_str::<HashMap<String, &RawValue>>(text).unwrap_or_default();
    let (mut names, added) = (names(before), names(after));
    names.extend(added.into_iter().filter(|(name, _)| !names.contains_key(name)).collect::<Vec<_>>());
    let (before, after) = (fields(before), fields(after));
    let changed = names.keys().filter_map(|name| {
        let (before, after) = (before.get(name).copied(), after.get(name).copied());
        let same = before.map(canonical) == after.map(canonical);
        let field = format!("payload.{name}");
        (!same).then(|| FieldChange { field, before: shown(before), after: shown(after) })
    });
    changed.collect()
}

fn canonical(json: &RawValue) -> String {
    canonical_json(json).unwrap_or_else(|_| json.get().to_owned())
}

/// Returns a value for display. A number that would be rounded becomes text, so that different values look different.
fn shown(json: Option<&RawValue>) -> Value {
    let Some(json) = json else { return Value::Null };
    let value: Value = serde_json::from_str(json.get()).unwrap_or_default();
    let is_exact = RawValue::from_string(value.to_string()).is_ok_and(|value| canonical(&value) == canonical(json));
    if is_exact { value } else { without_whitespace(json.get()).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_payload(payload: &str) -> NotificationContent {
        NotificationContent {
            id: Uuid::nil(),
            recipient: "teacher-anna".into(),
            notification_type: "batch_results_ready".into(),
            category: "processing_results".into(),
            priority: "standard".into(),
            payload: payload.into(),
            action_required: false,
            deadline: None,
            batch_id: None,
            class_id: None,
            thread: None,
            expires_at_ms: None,
        }
    }

    fn fields(before: &NotificationContent, after: &NotificationContent) -> Vec<String> {
        before.changes(after).into_iter().map(|change| change.field).collect()
    }

    #[test]
    fn what_differs_is_named() {
        let before = with_payload(r#"{"title":"Done","count":28}"#);
        assert!(before.changes(&before).is_empty());
        assert_eq!(fields(&before, &NotificationContent { priority: "high".into(), ..before.clone() }), ["priority"]);
        let after = NotificationContent { action_required: true, deadline: Some("x".into()), ..before.clone() };
        assert_eq!(fields(&before, &after), ["action_required", "deadline"]);
        assert_eq!(
            fields(&before, &with_payload(r#"{"count":28,"title":"Ready","more":1}"#)),
            ["payload.title", "payload.more"]
        );
    }

    #[test]
    fn another_order_or_spelling_tells_the_same() {
        let before = with_payload(r#"{"title":"Done","count":28}"#);
        assert!(fields(&before, &with_payload(r#"{"count":28.0,"title":"Done"}"#)).is_empty());
        let before = with_payload(r#"{"counts":[28,{"a":1,"b":2}]}"#);
        assert!(fields(&before, &with_payload(r#"{"counts":[2.8e1,{"b":2.0,"a":1}]}"#)).is_empty());
    }

    #[test]
    fn numbers_are_compared_and_shown_exactly() {
        for (before, after) in [
            ("9007199254740992", "9007199254740993"),
            ("18446744073709551614", "18446744073709551615"),
            ("1234567890123456789012", "1234567890123456789013"),
            ("[0.1]", "[0.1000000000000000000001]"),
        ] {
            let with_payload = |number: &str| with_payload(&format!(r#"{{"n":{number}}}"#));
            let changes = with_payload(before).changes(&with_payload(after));
            let [change] = changes.as_slice() else { panic!("{before} {after}: {changes:?}") };
            assert_eq!(change.field, "payload.n");
            assert_ne!(change.before, change.after, "{changes:?}");
        }
    }

    #[test]
    fn what_is_there_and_empty_is_not_what_is_not_there() {
        assert_eq!(fields(&with_payload("{}"), &with_payload(r#"{"a":null}"#)), ["payload.a"]);
    }
}
