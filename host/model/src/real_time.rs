use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::timestamp::isoformat;
use crate::{InvalidTimestamp, TeacherNotificationRequestedV1};

/// A notification in the form in which the platform's WebSocket service publishes it through Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealTimeMessage {
    /// The teacher's channel: `ws:` followed by the id.
    pub channel: String,
    /// One line of JSON: the notification's type as `event`, and as `data` the payload merged with the notification's
    /// own fields.
    pub text: String,
}

/// The reason why a text is not a notification in an envelope. Never quotes the text.
#[derive(Debug, thiserror::Error)]
pub enum NotANotification {
    /// The text has a different structure.
    #[error("not a TeacherNotificationRequestedV1 in an envelope, at line {line}, column {column}")]
    Structure {
        /// Line of the error.
        line: usize,
        /// Column of the error.
        column: usize,
    },
    /// A field is not a valid time.
    #[error("{field}: {error}")]
    Time {
        /// Name of the field.
        field: &'static str,
        /// The reason.
        error: InvalidTimestamp,
    },
}

impl RealTimeMessage {
    /// Converts a notification in its envelope. The notification's own fields override payload fields of the same name,
    /// and times are written as Python's `isoformat` writes them.
    pub fn of(envelope: &[u8]) -> Result<Self, NotANotification> {
        let read: Result<Outgoing<'_>, _> = serde_json::from_slice(envelope);
        let notification =
            read.map_err(|error| NotANotification::Structure { line: error.line(), column: error.column() })?.data;
        let time = |field, text: &str| isoformat(text).map_err(|error| NotANotification::Time { field, error });
        let deadline = notification.deadline_timestamp.as_deref().map(|text| time("deadline_timestamp", text));
        let mut data = notification.payload;
        data.set("category", &notification.category);
        data.set("priority", &notification.priority);
        data.set("action_required", &notification.action_required);
        data.set("deadline", &deadline.transpose()?);
        data.set("batch_id", &notification.batch_id);
        data.set("class_id", &notification.class_id);
        data.set("correlation_id", &notification.correlation_id);
        data.set("timestamp", &time("timestamp", &notification.timestamp)?);
        let message = Published { event: &notification.notification_type, data };
        Ok(Self {
            channel: format!("ws:{}", notification.teacher_id),
            text: serde_json::to_string(&message).expect("strings and raw JSON always serialize to JSON"),
        })
    }
}

#[derive(Serialize)]
struct Published<'a> {
    event: &'a str,
    data: Members<'a>,
}

#[derive(Deserialize)]
struct Outgoing<'a> {
    #[serde(borrow)]
    data: TeacherNotificationRequestedV1<'a, Members<'a>>,
}

/// An object whose values keep their text. As in a Python dictionary, the last value of a name counts, at the position
/// of the first.
struct Members<'a> {
    members: Vec<(String, Cow<'a, RawValue>)>,
    places: HashMap<String, usize>,
}

impl<'a> Members<'a> {
    fn set<T: Serialize>(&mut self, name: &str, value: &T) {
        let value = to_raw_value(value).expect("strings, booleans and nulls always serialize to JSON");
        self.put(name.to_owned(), Cow::Owned(value));
    }

    fn put(&mut self, name: String, value: Cow<'a, RawValue>) {
        match self.places.get(&name) {
            Some(place) => self.members[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.members.len());
                self.members.push((name, value));
            }
        }
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.members.len()))?;
        for (name, value) in &self.members {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members { members: Vec::new(), places: HashMap::new() };
                while let Some((name, value)) = object.next_entry::<String, &'de RawValue>()? {
                    members.put(name, Cow::Borrowed(value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ENVELOPE: &str = r#"{"event_id":"fe17901f-b267-53fc-ab06-b54d181baae1","event_type":"huleedu.notification.teacher.requested.v1","event_timestamp":"2026-03-02T09:15:01.25Z","source_service":"result_aggregator_service","schema_version":1,"correlation_id":"d0eb4a89-3543-5f75-b146-8eeb2c607e12","data_schema_uri":null,"data":{"teacher_id":"teacher-björn","notification_type":"batch_results_ready","category":"processing_results","priority":"high","payload":PAYLOAD,"action_required":false,"deadline_timestamp":null,"correlation_id":"d0eb4a89-3543-5f75-b146-8eeb2c607e12","batch_id":"batch-7","class_id":null,"timestamp":"2026-03-02T09:15:01.25Z"},"metadata":{"belfry":{}}}"#;
    const OWN: &str = r#""category":"processing_results","priority":"high","action_required":false,"deadline":null,"batch_id":"batch-7","class_id":null,"correlation_id":"d0eb4a89-3543-5f75-b146-8eeb2c607e12","timestamp":"2026-03-02T09:15:01.250000+00:00""#;

    fn of_payload(payload: &str) -> RealTimeMessage {
        RealTimeMessage::of(ENVELOPE.replace("PAYLOAD", payload).as_bytes()).expect("a notification")
    }

    #[test]
    fn the_payload_goes_on_with_what_the_notification_says_of_itself() {
        let message = of_payload(r#"{"message":"28 Aufsätze ✓","total":28,"phases":{"spellcheck":[1.50,null]}}"#);
        assert_eq!(message.channel, "ws:teacher-björn");
        let expected = format!(
            r#"{{"event":"batch_results_ready","data":{{"message":"28 Aufsätze ✓","total":28,"phases":{{"spellcheck":[1.50,null]}},{OWN}}}}}"#
        );
        assert_eq!(message.text, expected);
    }

    #[test]
    fn an_empty_payload_leaves_what_the_notification_says_of_itself() {
        assert_eq!(of_payload("{}").text, format!(r#"{{"event":"batch_results_ready","data":{{{OWN}}}}}"#));
    }

    #[test]
    fn what_the_notification_says_of_itself_overrides_its_payload() {
        let message = of_payload(r#"{"priority":"low","batch_id":"other","timestamp":1,"deadline":2,"message":"m"}"#);
        let expected = r#"{"event":"batch_results_ready","data":{"priority":"high","batch_id":"batch-7","timestamp":"2026-03-02T09:15:01.250000+00:00","deadline":null,"message":"m","category":"processing_results","action_required":false,"class_id":null,"correlation_id":"d0eb4a89-3543-5f75-b146-8eeb2c607e12"}}"#;
        assert_eq!(message.text, expected);
    }

    #[test]
    fn numbers_keep_their_text_and_the_last_of_two_values_counts() {
        let message = of_payload(r#"{"n":1,"big":12345678901234567890123,"n":2.50,"\u006e":-0,"escaped":"\u00f6\n"}"#);
        let expected = format!(
            r#"{{"event":"batch_results_ready","data":{{"n":-0,"big":12345678901234567890123,"escaped":"\u00f6\n",{OWN}}}}}"#
        );
        assert_eq!(message.text, expected);
    }

    #[test]
    fn a_deadline_is_written_as_python_writes_it() {
        let mut envelope: serde_json::Value =
            serde_json::from_str(&ENVELOPE.replace("PAYLOAD", "{}")).expect("an envelope");
        envelope["data"]["deadline_timestamp"] = json!("2026-03-03T09:15:02Z");
        envelope["data"]["action_required"] = json!(true);
        envelope["data"]["class_id"] = json!("9b");
        let message = RealTimeMessage::of(envelope.to_string().as_bytes()).expect("a notification");
        for part in [r#""deadline":"2026-03-03T09:15:02+00:00""#, r#""action_required":true"#, r#""class_id":"9b""#] {
            assert!(message.text.contains(part), "{part} in {}", message.text);
        }
    }

    #[test]
    fn what_is_no_notification_is_refused_and_not_quoted() {
        let secret = ENVELOPE.replace("PAYLOAD", r#""canary""#);
        for text in ["", "canary", r#"{"data":{"teacher_id":"canary"}}"#, &secret] {
            let refused = RealTimeMessage::of(text.as_bytes()).expect_err(text).to_string();
            assert!(!refused.contains("canary"), "{refused}");
        }
        let no_time = ENVELOPE
            .replace("PAYLOAD", "{}")
            .replace("\"timestamp\":\"2026-03-02T09:15:01.25Z\"", "\"timestamp\":\"canary\"");
        let refused = RealTimeMessage::of(no_time.as_bytes()).expect_err("an invalid time").to_string();
        assert!(refused.starts_with("timestamp: ") && !refused.contains("canary"), "{refused}");
    }
}
