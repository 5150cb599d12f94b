//! A notification's recipient and content as hashes: small enough that a million notifications fit into memory, and
//! nothing else of them is kept.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use belfry_model::{ForeignTeacherNotification, canonical_json, parse_instant_ms};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Limit on distinct names; any additional name counts as [`OTHER`].
const MAX_NAMES: usize = 4096;
const OTHER: &str = "payload.(others)";

/// The parts of a message that a comparison needs.
#[derive(Deserialize)]
struct Envelope<'a> {
    event_id: Option<Uuid>,
    #[serde(borrow)]
    data: ForeignTeacherNotification<'a>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    belfry: Option<serde::de::IgnoredAny>,
}

/// Numbers for the names of fields and types.
#[derive(Default)]
pub(super) struct Names {
    names: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Names {
    fn number(&mut self, name: &str) -> u16 {
        let name = if self.names.len() >= MAX_NAMES && !self.numbers.contains_key(name) { OTHER } else { name };
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u16;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Returns the name with this number; empty if there is none.
    pub(super) fn name(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("", String::as_str)
    }
}

/// A notification without its producer and its time.
pub(super) struct Content {
    /// The id of the message.
    pub(super) event_id: Option<Uuid>,
    /// Whether Belfry made it.
    pub(super) by_belfry: bool,
    /// A hash of correlation id, recipient and type.
    pub(super) key: u64,
    /// The correlation id, which events pass on unchanged.
    pub(super) correlation_id: Option<Uuid>,
    /// The number of its type.
    pub(super) kind: u16,
    /// The numbers of its fields, with a hash of each value.
    pub(super) fields: Box<[(u16, u64)]>,
}

impl Content {
    /// Reads a message; `None` if it is not a notification.
    pub(super) fn of(message: &[u8], names: &mut Names) -> Option<Self> {
        let Envelope { event_id, data, metadata } = serde_json::from_slice(message).ok()?;
        let (teacher_id, notification_type) = (data.teacher_id?, data.notification_type?);
        let correlation_id = data.correlation_id?.to_ascii_lowercase();
        let key = hash(&(&correlation_id, &teacher_id, &notification_type));
        // An absent field has the default.
        let action_required = data.action_required.filter(|json| json.get() != "false");
        let mut fields = vec![
            (names.number("category"), canonical(data.category)),
            (names.number("priority"), canonical(data.priority)),
            (names.number("action_required"), canonical(action_required)),
            (names.number("deadline_timestamp"), instant(data.deadline_timestamp)),
            (names.number("batch_id"), canonical(data.batch_id)),
            (names.number("class_id"), canonical(data.class_id)),
        ];
        match data.payload.and_then(|payload| serde_json::from_str::<BTreeMap<String, &RawValue>>(payload.get()).ok()) {
            Some(payload) => {
                let named = payload.iter().map(|(name, value)| {
                    (names.number(&format!("payload.{name}")), hash(&(name, canonical(Some(*value)))))
                });
                fields.extend(named);
            }
            None => fields.push((names.number("payload"), canonical(data.payload))),
        }
        fields.sort_unstable();
        Some(Self {
            event_id,
            by_belfry: metadata.is_some_and(|metadata| metadata.belfry.is_some()),
            key,
            correlation_id: correlation_id.parse().ok(),
            kind: names.number(&notification_type),
            fields: fields.into_boxed_slice(),
        })
    }

    /// Returns the names of the fields in which two notifications differ.
    pub(super) fn differences(&self, other: &Self, names: &Names) -> Vec<String> {
        let only = |one: &Self, another: &Self| {
            let missing = one.fields.iter().filter(|field| !another.fields.contains(field));
            missing.map(|(number, _)| *number).collect::<Vec<_>>()
        };
        let mut numbers = only(self, other);
        numbers.extend(only(other, self));
        let mut differing: Vec<String> = numbers.into_iter().map(|number| names.name(number).to_owned()).collect();
        differing.sort();
        differing.dedup();
        differing
    }
}

/// Returns the same hash for equal values: 12.5 and 12.50, or fields in any order. Nothing is rounded.
fn canonical(value: Option<&RawValue>) -> u64 {
    hash(&value.map(|json| canonical_json(json).unwrap_or_else(|_| json.get().to_owned())))
}

/// Returns the same hash for equal times: the same instant can be written in several ways.
fn instant(value: Option<&RawValue>) -> u64 {
    let text = value.and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    match text.map(|text| parse_instant_ms(&text)) {
        Some(Ok(ms)) => hash(&ms),
        Some(Err(_)) | None => canonical(value),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut message = json!({
            "event_id": "a25fb85b-a5b0-523c-993b-2dc42602b95d",
            "data": {
                "teacher_id": "t", "notification_type": "n", "correlation_id": "A25FB85B-A5B0-523C-993B-2DC42602B95D",
                "category": "c", "priority": "high", "payload": { "a": 1.0, "b": [1, { "x": 2, "y": 3 }] }
            }
        });
        change(&mut message["data"]);
        message.to_string().into_bytes()
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        let mut names = Names::default();
        let mut of = |change: fn(&mut Value)| Content::of(&message(change), &mut names).expect("a notification");
        let first = of(|_| {});
        let again = of(|data| {
            data["action_required"] = json!(false);
            data["deadline_timestamp"] = json!(null);
            data["timestamp"] = json!("2026-03-02T09:15:01Z");
            data["correlation_id"] = json!("a25fb85b-a5b0-523c-993b-2dc42602b95d");
            data["payload"] = json!({ "b": [1.0, { "y": 3, "x": 2 }], "a": 1 });
        });
        assert_eq!((first.key, &first.fields), (again.key, &again.fields));
        let deadline = |text: &'static str| message(move |data| data["deadline_timestamp"] = json!(text));
        let mut of = |text| Content::of(&deadline(text), &mut names).expect("a notification").fields;
        assert_eq!(of("2026-03-02T09:15:01Z"), of("2026-03-02T10:15:01+01:00"));
    }

    #[test]
    fn what_differs_is_named_and_not_shown() {
        let mut names = Names::default();
        let first = Content::of(&message(|_| {}), &mut names).expect("a notification");
        let other = message(|data| {
            data["priority"] = json!("low");
            data["payload"] = json!({ "a": 2, "c": 1, "b": [1, { "x": 2, "y": 3 }] });
        });
        let other = Content::of(&other, &mut names).expect("a notification");
        assert_eq!(first.key, other.key);
        assert_eq!(first.differences(&other, &names), ["payload.a", "payload.c", "priority"]);
    }

    #[test]
    fn numbers_are_not_rounded() {
        let mut names = Names::default();
        let with = |number: &str| {
            let text = String::from_utf8(message(|data| data["payload"] = json!({ "n": "NUMBER" }))).expect("text");
            text.replace("\"NUMBER\"", number).into_bytes()
        };
        let mut of = |number| Content::of(&with(number), &mut names).expect("a notification").fields;
        assert_ne!(of("9007199254740992"), of("9007199254740993"));
        assert_eq!(of("9007199254740993"), of("9007199254740993.0"));
    }

    #[test]
    fn what_tells_nobody_is_no_notification() {
        let mut names = Names::default();
        assert!(Content::of(b"{}", &mut names).is_none());
        assert!(Content::of(b"no JSON", &mut names).is_none());
    }
}
