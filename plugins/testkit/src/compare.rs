use std::fmt;

use serde::Serialize;
use serde_json::{Number, Value};

use crate::Expectation;
use crate::visible::visible;

/// The most characters of a value that a report shows.
const MAX_SHOWN: usize = 160;
/// How much of two long texts is shown before they part.
const SHOWN_BEFORE: usize = 20;

/// A place where what came out is not what was expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The place, such as `notifications[0].payload.message`.
    pub path: String,
    /// What should be there; nothing if none.
    pub expected: Option<Value>,
    /// What is there; nothing if none.
    pub got: Option<Value>,
    /// Why it came to that, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, got) = match (&self.expected, &self.got) {
            (Some(Value::String(expected)), Some(Value::String(got))) => long_texts(expected, got),
            (expected, got) => (shown(expected.as_ref()), shown(got.as_ref())),
        };
        write!(formatter, "{}: expected {expected}, got {got}", visible(&self.path))?;
        self.note.as_ref().map_or(Ok(()), |note| write!(formatter, " ({})", visible(note)))
    }
}

/// All differences between what was expected and what came out. `note` says why it came out like that.
pub(crate) fn differences(expected: &Expectation, got: &Expectation, note: Option<&str>) -> Vec<Difference> {
    let mut found = Vec::new();
    match (expected, got) {
        (Expectation::Notifications(expected), Expectation::Notifications(got)) => {
            let in_full = |all: &[crate::ExpectedNotification]| all.iter().map(|one| one.in_full()).collect();
            compare("notifications", &Value::Array(in_full(expected)), &Value::Array(in_full(got)), &mut found);
        }
        (Expectation::Rejection(expected), Expectation::Rejection(got)) if expected != got => {
            found.push(different("rejection.code", expected.code.as_str().into(), got.code.as_str().into()));
        }
        _ if expected.outcome() != got.outcome() => {
            let [expected, got] = [expected, got].map(|side| side.outcome().as_str().into());
            found.push(different("outcome", expected, got));
        }
        _ => {}
    }
    for difference in found.iter_mut().filter(|difference| !difference.path.starts_with("notifications")) {
        difference.note = note.map(str::to_owned);
    }
    found
}

fn different(path: &str, expected: Value, got: Value) -> Difference {
    Difference { path: path.to_owned(), expected: Some(expected), got: Some(got), note: None }
}

/// Walk two values side by side. The order of an object's fields does not count; numbers are compared by value.
fn compare(path: &str, expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let names = expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name)));
            for name in names {
                compare_optional(&field(path, name), expected.get(name), got.get(name), found);
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            for place in 0..expected.len().max(got.len()) {
                compare_optional(&format!("{path}[{place}]"), expected.get(place), got.get(place), found);
            }
        }
        (Value::Number(expected_number), Value::Number(got_number)) if same_number(expected_number, got_number) => {}
        _ if expected == got => {}
        _ => found.push(different(path, expected.clone(), got.clone())),
    }
}

fn compare_optional(path: &str, expected: Option<&Value>, got: Option<&Value>, found: &mut Vec<Difference>) {
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
    if plain { format!("{path}.{name}") } else { format!("{path}[{}]", Value::from(name)) }
}

/// `1` is `1.0`, and integers beyond 2^53 are not rounded to meet.
fn same_number(one: &Number, other: &Number) -> bool {
    match (exact_integer(one), exact_integer(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        _ => false,
    }
}

fn exact_integer(number: &Number) -> Option<i128> {
    const LIMIT: f64 = 1e38; // Below 2^127.
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() < LIMIT).then_some(float as i128)
    })
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), |value| visible(&value.to_string()));
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Long texts are shown from shortly before the place where they part.
fn long_texts(expected: &str, got: &str) -> (String, String) {
    let common = expected.chars().zip(got.chars()).take_while(|(one, other)| one == other).count();
    let longest = expected.chars().count().max(got.chars().count());
    if longest <= MAX_SHOWN || common <= SHOWN_BEFORE {
        return (shown(Some(&expected.into())), shown(Some(&got.into())));
    }
    let from_there = |text: &str| {
        let rest: String = text.chars().skip(common - SHOWN_BEFORE).collect();
        format!("…{}", shown(Some(&rest.into())))
    };
    (from_there(expected), from_there(got))
}

#[cfg(test)]
mod tests {
    use belfry_model::Outcome;
    use serde_json::json;

    use super::*;
    use crate::ExpectedRejection;

    fn compared(expected: Value, got: Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("payload", &expected, &got, &mut found);
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
            let [one, other] = [one, other].map(|text| serde_json::from_str(text).expect("a number"));
            assert_eq!(compared(one, other), [] as [String; 0]);
        }
        for (one, other) in [("1", "1.5"), ("1", "\"1\""), ("9007199254740993", "9007199254740992.0"), ("0", "false")] {
            let [one, other]: [Value; 2] = [one, other].map(|text| serde_json::from_str(text).expect("JSON"));
            assert_eq!(compared(one.clone(), other.clone()).len(), 1, "{one} {other}");
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
