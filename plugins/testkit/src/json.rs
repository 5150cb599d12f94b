use std::fmt;

use belfry_model::{canonical_json, without_whitespace};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// JSON that keeps its text, so numbers may have any number of digits. Two values are equal if they differ only in the
/// order of an object's fields or in the notation of numbers and strings; numbers are compared by their exact value.
#[derive(Clone, Debug)]
pub struct Json(Box<RawValue>);

/// The contents of a value.
pub(crate) enum Inner {
    Fields(Fields),
    Items(Vec<Json>),
    Nothing,
}

impl Json {
    /// Serializes a value to JSON.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(to_raw_value(value).expect("strings, numbers and lists always serialize to JSON"))
    }

    /// Returns the text without whitespace.
    pub(crate) fn text(&self) -> String {
        without_whitespace(self.0.get())
    }

    /// Returns the value of a string; `None` for any other value.
    pub(crate) fn as_str(&self) -> Option<String> {
        serde_json::from_str(self.0.get()).ok()
    }

    pub(crate) fn inner(&self) -> Inner {
        let text = self.0.get();
        let inner = match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str(text).map(Inner::Fields),
            Some(b'[') => serde_json::from_str(text).map(Inner::Items),
            _ => Ok(Inner::Nothing),
        };
        inner.unwrap_or(Inner::Nothing)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        // Both were checked against the limits when they were parsed.
        canonical_json(&self.0) == canonical_json(&other.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        canonical_json(&json).map_err(D::Error::custom)?;
        Ok(Self(json))
    }
}

/// Serializes the value part by part, so that a serializer can format it.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.inner() {
            Inner::Fields(Fields(fields)) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
            Inner::Items(items) => serializer.collect_seq(items),
            Inner::Nothing => self.0.serialize(serializer),
        }
    }
}

/// An object's fields in the order of the text. If a name occurs twice, the last value counts.
pub(crate) struct Fields(Vec<(String, Json)>);

impl Fields {
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Json)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Json>()? {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some(field) => field.1 = value,
                        None => fields.push((name, value)),
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_when_they_are_laid_out() {
        let json: Json =
            serde_json::from_str(r#"{"b":[12345678901234567890123,{}],"a":1.50,"b":[0.10]}"#).expect("JSON");
        let pretty = serde_json::to_string_pretty(&json).expect("JSON");
        assert_eq!(pretty, "{\n  \"b\": [\n    0.10\n  ],\n  \"a\": 1.50\n}");
    }
}
