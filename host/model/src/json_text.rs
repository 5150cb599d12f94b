use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use crate::canonical::canonical_without;
use crate::json_limits::{JsonLimit, MAX_JSON_DEPTH, check_limits};

/// The reason why a text is not a valid JSON object.
#[derive(Debug, thiserror::Error)]
pub enum JsonTextError {
    /// Not JSON (RFC 8259).
    #[error("not valid JSON: {0}")]
    Invalid(#[from] serde_json::Error),
    /// JSON that exceeds a limit.
    #[error(transparent)]
    Limit(#[from] JsonLimit),
    /// JSON, but not an object.
    #[error("must be a JSON object")]
    NotAnObject,
}

/// Checks that a text is a JSON object nested no deeper than `max_depth`, and removes the whitespace between its
/// tokens. Numbers and strings keep their text, so nothing is rounded or escaped differently.
pub fn compact_object(text: &str, max_depth: usize) -> Result<String, JsonTextError> {
    check_limits(serde_json::from_str::<&RawValue>(text)?, max_depth)?;
    let compact = without_whitespace(text);
    if compact.starts_with('{') { Ok(compact) } else { Err(JsonTextError::NotAnObject) }
}

/// A JSON object, such as a release's settings, in its canonical form (see [`crate::canonical_json`]). Equal objects
/// have the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonObject(String);

impl JsonObject {
    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl FromStr for JsonObject {
    type Err = JsonTextError;

    fn from_str(text: &str) -> Result<Self, JsonTextError> {
        let json: &RawValue = serde_json::from_str(text)?;
        check_limits(json, MAX_JSON_DEPTH)?;
        if !json.get().starts_with('{') {
            return Err(JsonTextError::NotAnObject);
        }
        Ok(Self(canonical_without(json.get(), &[])?))
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer)?.get().parse().map_err(D::Error::custom)
    }
}

/// Removes the whitespace outside strings from a text that is known to be JSON.
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
        for text in ["", "{", "{}{}", "{\"a\":NaN}", "{'a':1}", "{\"a\":1,}", "{\"a\":\"\\uzzzz\"}", "{\"a\":\"\t\"}"] {
            assert!(matches!(compact_object(text, 32), Err(JsonTextError::Invalid(_))), "{text}");
        }
        for text in ["{\"a\":\"\\ud800\"}", "{\"a\":1e999}", "{\"\\udc00\":1}"] {
            let refused = compact_object(text, 32).expect_err(text);
            assert!(matches!(refused, JsonTextError::Limit(_)) && !refused.to_string().contains("valid"), "{refused}");
        }
    }

    #[test]
    fn objects_that_say_the_same_are_the_same() {
        let object = |text: &str| text.parse::<JsonObject>();
        let one = object(r#" {"b":1.0,"a":{"x":9007199254740993}} "#).expect("an object");
        assert_eq!(one.as_str(), r#"{"a":{"x":9007199254740993},"b":1}"#);
        assert_eq!(object(r#"{"a":{"x":9007199254740993.0},"b":1}"#).expect("an object"), one);
        assert_ne!(object(r#"{"a":{"x":9007199254740992},"b":1}"#).expect("an object"), one);
        for refused in ["[]", "{", r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#] {
            assert!(object(refused).is_err(), "{refused}");
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
