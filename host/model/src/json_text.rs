use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Why a text is not the JSON object that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JsonTextError {
    /// Not JSON (RFC 8259), or nested too deeply.
    #[error("not valid JSON: {0}")]
    Invalid(#[from] serde_json::Error),
    /// JSON, but not an object.
    #[error("must be a JSON object")]
    NotAnObject,
}

/// Check that a text is a JSON object no deeper than `max_depth`, and take out the whitespace between its tokens.
/// Numbers and strings keep the text they have, so nothing is rounded or re-escaped.
pub fn compact_object(text: &str, max_depth: usize) -> Result<String, JsonTextError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Nesting { left: max_depth, max_depth }.deserialize(&mut reader)?;
    reader.end()?;
    let compact = without_whitespace(text);
    if compact.starts_with('{') { Ok(compact) } else { Err(JsonTextError::NotAnObject) }
}

/// Take whitespace out of a text known to be JSON, outside its strings.
pub fn without_whitespace(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else if character == '"' {
            in_string = true;
        }
        compact.push(character);
    }
    compact
}

/// Walks a JSON value and keeps nothing of it, but counts how deep it goes.
#[derive(Clone, Copy)]
struct Nesting {
    left: usize,
    max_depth: usize,
}

impl Nesting {
    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(E::custom(format!("nested more than {} levels deep", self.max_depth))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Nesting {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nesting {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        // Names are read as values too: that checks their escapes, and they cannot nest.
        while fields.next_key_seed(inner)?.is_some() {
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn spacing_goes_and_everything_else_stays() {
        let compact =
            compact_object("{ \"a b\" :\t[ 1.50 ,\n-0 , 12345678901234567890123 ], \"q\\\" \": \" \\\\ \" }", 32);
        assert_eq!(compact.expect("an object"), r#"{"a b":[1.50,-0,12345678901234567890123],"q\" ":" \\ "}"#);
    }

    #[test]
    fn refuses_what_is_not_an_object() {
        for text in ["[]", "1", "null", "\"{}\""] {
            assert!(matches!(compact_object(text, 32), Err(JsonTextError::NotAnObject)), "{text}");
        }
        for text in ["", "{", "{}{}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}", "{'a':1}", "{\"a\":1,}", "{\"a\":1e999}"] {
            assert!(matches!(compact_object(text, 32), Err(JsonTextError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn counts_levels() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(compact_object(&nested(32), 32).is_ok());
        let refused = compact_object(&nested(33), 32).expect_err("33 levels");
        assert!(refused.to_string().contains("more than 32 levels"), "{refused}");
    }

    proptest! {
        #[test]
        fn compacting_changes_no_value(text in "[ -~\n\tö]{0,40}", number: f64, key in "\\PC{0,8}") {
            let value = serde_json::json!({ key: [text, number, null, true], "n": { "m": [] } });
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            let compact = compact_object(&pretty, 32).expect("an object");
            prop_assert_eq!(&compact, &value.to_string());
            prop_assert_eq!(serde_json::from_str::<Value>(&compact).expect("JSON"), value);
        }
    }
}
