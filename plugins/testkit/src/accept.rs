use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Expectation;

/// Locates the expectation in a case's text. Everything else is kept unchanged, including the spacing.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    expect: Option<&'a RawValue>,
}

/// Unlike a plain `Option`, distinguishes `null` from a missing field.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// Returns a case's text with its expectation replaced, or added after all other fields if it has none.
pub(crate) fn with_expectation(text: &str, expectation: &Expectation) -> Result<String, serde_json::Error> {
    let place: Place<'_> = serde_json::from_str(text)?;
    let pretty = serde_json::to_string_pretty(expectation)?.replace('\n', "\n  ");
    if let Some(expect) = place.expect {
        // The raw value borrows from the text, so its address shows where in the text it starts.
        let start = expect.get().as_ptr() as usize - text.as_ptr() as usize;
        let (before, rest) = text.split_at(start);
        return Ok(format!("{before}{pretty}{}", &rest[expect.get().len()..]));
    }
    // A case is an object with at least an event, so the last character closes it and a comma is needed.
    let object = text.trim_end();
    let fields = object.strip_suffix('}').unwrap_or(object).trim_end();
    Ok(format!("{fields},\n  \"expect\": {pretty}\n}}\n"))
}

#[cfg(test)]
mod tests {
    use belfry_model::Outcome;

    use super::*;

    const TRAPPED: Expectation = Expectation::Outcome(Outcome::Trapped);
    const PRETTY: &str = "{\n    \"outcome\": \"trapped\"\n  }";

    fn accepted(text: &str) -> String {
        with_expectation(text, &TRAPPED).expect("a case")
    }

    #[test]
    fn the_expectation_is_replaced_in_its_place() {
        let text = "{\n  \"expect\": {\n    \"notifications\": []\n  },\n  \"event\": { \"n\": 1.50 }\n}\n";
        let expected = format!("{{\n  \"expect\": {PRETTY},\n  \"event\": {{ \"n\": 1.50 }}\n}}\n");
        assert_eq!(accepted(text), expected);
        assert_eq!(accepted(&expected), expected);
    }

    #[test]
    fn a_missing_expectation_is_added_at_the_end() {
        let expected = format!("{{\n  \"event\": \"ö.json\",\n  \"expect\": {PRETTY}\n}}\n");
        assert_eq!(accepted("{\n  \"event\": \"ö.json\"\n}\n"), expected);
        assert_eq!(accepted("{\n  \"event\": \"ö.json\"}"), expected);
    }

    #[test]
    fn null_is_replaced_and_not_doubled() {
        assert_eq!(accepted(r#"{"expect":null,"event":"a"}"#), format!("{{\"expect\":{PRETTY},\"event\":\"a\"}}"));
    }
}
