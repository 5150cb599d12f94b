use std::fmt;

use serde::Serialize;

use crate::json::Inner;
use crate::visible::visible;
use crate::{Expectation, Json};

/// Maximum number of characters of a value that a report shows.
const MAX_SHOWN: usize = 160;
/// Number of characters of two long texts that are shown before the point where they differ.
const SHOWN_BEFORE: usize = 20;

/// A difference between the expected and the actual result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The path of the value, such as `notifications[0].payload.message`.
    pub path: String,
    /// The expected value; `None` if there should be none.
    pub expected: Option<Json>,
    /// The actual value; `None` if there is none.
    pub got: Option<Json>,
    /// The reason for the actual result, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |side: &Option<Json>| side.as_ref().and_then(Json::as_str);
        let (expected, got) = match (text(&self.expected), text(&self.got)) {
            (Some(expected), Some(got)) => long_texts(&expected, &got),
            _ => (shown(self.expected.as_ref()), shown(self.got.as_ref())),
        };
        write!(formatter, "{}: expected {expected}, got {got}", visible(&self.path))?;
        self.note.as_ref().map_or(Ok(()), |note| write!(formatter, " ({})", visible(note)))
    }
}

/// Returns all differences between the expected and the actual result. `note` is the reason for the actual result.
pub(crate) fn differences(expected: &Expectation, got: &Expectation, note: Option<&str>) -> Vec<Difference> {
    let mut found = Vec::new();
    match (expected, got) {
        (Expectation::Notifications(expected), Expectation::Notifications(got)) => {
            let in_full =
                |all: &[crate::ExpectedNotification]| all.iter().map(|one| one.in_full()).collect::<Vec<Json>>();
            compare_items("notifications", &in_full(expected), &in_full(got), &mut found);
        }
        (Expectation::Rejection(expected), Expectation::Rejection(got)) if expected != got => {
            found.push(different("rejection.code", Json::of(&expected.code), Json::of(&got.code)));
        }
        _ if expected.outcome() != got.outcome() => {
            let [expected, got] = [expected, got].map(|side| Json::of(side.outcome().as_str()));
            found.push(different("outcome", expected, got));
        }
        _ => {}
    }
    for difference in found.iter_mut().filter(|difference| !difference.path.starts_with("notifications")) {
        difference.note = note.map(str::to_owned);
    }
    found
}

fn different(path: &str, expected: Json, got: Json) -> Difference {
    Difference { path: path.to_owned(), expected: Some(expected), got: Some(got), note: None }
}

/// Compares two values recursively. The order of an object's fields does not count; numbers are compared by value.
fn compare(path: &str, expected: &Json, got: &Json, found: &mut Vec<Difference>) {
    if expected == got {
        return;
    }
    match (expected.inner(), got.inner()) {
        (Inner::Fields(expected), Inner::Fields(got)) => {
            let names = expected.names().chain(got.names().filter(|name| expected.get(name).is_none()));
            for name in names {
                compare_optional(&field(path, name), expected.get(name), got.get(name), found);
            }
        }
        (Inner::Items(expected), Inner::Items(got)) => compare_items(path, &expected, &got, found),
        _ => found.push(different(path, expected.clone(), got.clone())),
    }
}

fn compare_items(path: &str, expected: &[Json], got: &[Json], found: &mut Vec<Difference>) {
    for place in 0..expected.len().max(got.len()) {
        compare_optional(&format!("{path}[{place}]"), expected.get(place), got.get(place), found);
    }
}

fn compare_optional(path: &str, expected: Option<&Json>, got: Option<&Json>, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Some(expected), Some(got)) => compare(path, expected, got, found),
        (expected, got) => {
            found.push(Difference { path: path.to_owned(), expected: expected.cloned(), got: got.cloned(), note: None })
        }
    }
}

fn field(path: &str, name: &str) -> String {
    let plain =
        !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-');
    if plain { format!("{path}.{name}") } else { format!("{path}[{}]", Json::of(name).text()) }
}

fn shown(value: Option<&Json>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), |value| visible(&value.text()));
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns two texts as a report shows them: long texts from shortly before the point where they differ.
fn long_texts(expected: &str, got: &str) -> (String, String) {
    let common = expected.chars().zip(got.chars()).take_while(|(one, other)| one == other).count();
    let longest = expected.chars().count().max(got.chars().count());
    if longest <= MAX_SHOWN || common <= SHOWN_BEFORE {
        return (shown(Some(&Json::of(expected))), shown(Some(&Json::of(got))));
    }
    let from_there = |text: &str| {
        let rest: String = text.chars().skip(common - SHOWN_BEFORE).collect();
        format!("…{}", shown(Some(&Json::of(&rest))))
    };
    (from_there(expected), from_there(got))
}

#[cfg(test)]
mod tests {
    use belfry_model::Outcome;
    use serde_json::{Value, json};

    use super::*;
    use crate::ExpectedRejection;

    fn compared(expected: Value, got: Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("payload", &Json::of(&expected), &Json::of(&got), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    fn numbers_compared(expected: &str, got: &str) -> Vec<String> {
        let mut found = Vec::new();
        let json = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        compare("payload", &json(expected), &json(got), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    fn notifications(payload: Value) -> Expectation {
        let notification = json!({
            "recipient": "teacher-anna",
            "notification_type": "batch_results_ready",
            "category": "processing_results",
            "priority": "high",
            "payload": payload,
        });
        serde_json::from_value(json!({ "notifications": [notification] })).expect("an expectation")
    }

    #[test]
    fn names_the_field_that_differs() {
        let expected = notifications(json!({ "phase_results": { "spellcheck": { "status": "completed" } }, "n": 1 }));
        let got = notifications(json!({ "n": 1, "phase_results": { "spellcheck": { "status": "failed" } } }));
        let found = differences(&expected, &got, None);
        let [difference] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            difference.to_string(),
            r#"notifications[0].payload.phase_results.spellcheck.status: expected "completed", got "failed""#
        );
        assert_eq!(differences(&expected, &expected, None), []);
    }

    #[test]
    fn names_what_is_missing_and_what_is_too_much() {
        assert_eq!(
            compared(json!({ "a": 1, "b": [1, 2] }), json!({ "b": [1], "c d": null })),
            [
                "payload.a: expected 1, got nothing",
                "payload.b[1]: expected 2, got nothing",
                r#"payload["c d"]: expected nothing, got null"#,
            ]
        );
    }

    #[test]
    fn defaults_are_compared_and_named() {
        let expected = notifications(json!({}));
        let Expectation::Notifications(mut changed) = expected.clone() else { panic!("notifications") };
        changed[0].action_required = true;
        changed[0].batch_id = Some("batch-1".into());
        let found = differences(&expected, &Expectation::Notifications(changed), None);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "notifications[0].action_required: expected false, got true",
                r#"notifications[0].batch_id: expected null, got "batch-1""#,
            ]
        );
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (one, other) in [("1", "1.0"), ("-0.0", "0"), ("1e2", "100"), ("0.1", "1e-1")] {
            assert_eq!(numbers_compared(one, other), [] as [String; 0]);
        }
        for (one, other) in [
            ("1", "1.5"),
            ("1", "\"1\""),
            ("9007199254740993", "9007199254740992.0"),
            ("12345678901234567890123", "12345678901234567890124"),
            ("0.1", "0.10000000000000000001"),
            ("0", "false"),
        ] {
            let found = numbers_compared(one, other);
            assert_eq!(found, [format!("payload: expected {one}, got {other}")]);
        }
    }

    #[test]
    fn says_why_an_outcome_is_another() {
        let rejection = Expectation::Rejection(ExpectedRejection { code: "unknown-status".into() });
        let found = differences(&notifications(json!({})), &rejection, Some("unknown-status: what is \u{1b}[31m?"));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [r#"outcome: expected "notifications", got "rejected" (unknown-status: what is \u{1b}[31m?)"#]
        );
        let failure = |outcome| Expectation::Outcome(outcome);
        assert_eq!(differences(&failure(Outcome::Trapped), &failure(Outcome::Trapped), None), []);
        assert_eq!(differences(&failure(Outcome::Trapped), &failure(Outcome::TimedOut), None).len(), 1);
    }

    #[test]
    fn long_texts_are_shown_where_they_part() {
        let long = "a".repeat(300);
        let found = compared(json!(format!("{long}b")), json!(format!("{long}c")));
        let tail = "a".repeat(SHOWN_BEFORE);
        assert_eq!(found, [format!(r#"payload: expected …"{tail}b", got …"{tail}c""#)]);
        let found = compared(json!([]), json!(long));
        assert!(found[0].ends_with('…') && found[0].chars().count() < 2 * MAX_SHOWN, "{found:?}");
    }
}
