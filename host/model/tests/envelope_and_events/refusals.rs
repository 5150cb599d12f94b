//! What is refused, and what the refusal says.

use belfry_model::{Envelope, MAX_JSON_DEPTH, Outcome};
use serde_json::{Map, Value, json};

use super::{ASSESSMENT, SUCCESS, envelope, refused, with, without, wrapped};

#[test]
fn limits_are_called_limits() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (text, pointer, detail) in [
        (wrapped("t", r#"{"a":[1e400]}"#, ""), "/data", "the limit of ±1.7976931348623157e308"),
        (wrapped("t", &format!("-1{}", "0".repeat(309)), ""), "/data", "the limit of ±1.7976931348623157e308"),
        (wrapped("t", &nested(MAX_JSON_DEPTH + 1), ""), "/data", "more than 127 levels deep, which is the limit"),
        (wrapped("t", &nested(100_000), ""), "/data", "more than 127 levels deep, which is the limit"),
        (wrapped("t", "1", &format!(r#","metadata":{}"#, nested(200))), "/metadata", "more than 127 levels"),
        (wrapped("t", "1", &format!(r#","un~known":{}"#, nested(200))), "/un~0known", "more than 127 levels"),
    ] {
        let refused = refused(&text);
        assert_eq!((refused.outcome, refused.pointer.as_str()), (Outcome::Malformed, pointer), "{refused}");
        assert!(refused.detail.contains(detail) && !refused.detail.contains("valid"), "{refused}");
    }
    for data in [nested(MAX_JSON_DEPTH), "1e308".into(), "1e-400".into(), "-1.7976931348623158e308".into()] {
        envelope(&wrapped("t", &data, ""));
    }
}

#[test]
fn a_refusal_points_to_the_field_that_is_missing() {
    for (sample, fields) in [
        (SUCCESS, &["/event_id", "/event_type", "/event_timestamp", "/source_service", "/data"][..]),
        (
            SUCCESS,
            &[
                "/data/batch_id",
                "/data/user_id",
                "/data/total_essays",
                "/data/completed_essays",
                "/data/overall_status",
                "/data/processing_duration_seconds",
                "/data/phase_results",
                "/data/phase_results/cj_assessment/status",
                "/data/phase_results/cj_assessment/completed_count",
                "/data/phase_results/cj_assessment/failed_count",
            ],
        ),
        (ASSESSMENT, &["/data/batch_id", "/data/user_id", "/data/assessment_job_id", "/data/rankings_summary"]),
    ] {
        for pointer in fields {
            let malformed = refused(&without(sample, pointer));
            assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, *pointer));
            assert!(malformed.detail.starts_with("missing"), "{malformed}");
            // The error names the event as soon as its id could be read.
            assert_eq!(malformed.event_id.is_some(), *pointer != "/event_id", "{pointer}");
        }
    }
}

#[test]
fn a_refusal_points_to_the_field_that_is_wrong() {
    for (text, pointer) in [
        (with(SUCCESS, "/event_id", 5), "/event_id"),
        (with(SUCCESS, "/event_id", "teacher-anna"), "/event_id"),
        (with(SUCCESS, "/event_type", Value::Null), "/event_type"),
        (with(SUCCESS, "/event_type", ""), "/event_type"),
        (with(SUCCESS, "/event_timestamp", "yesterday"), "/event_timestamp"),
        (with(SUCCESS, "/event_timestamp", 1_772_442_901), "/event_timestamp"),
        (with(SUCCESS, "/source_service", json!([])), "/source_service"),
        (with(SUCCESS, "/correlation_id", "request-1"), "/correlation_id"),
        (with(SUCCESS, "/data_schema_uri", 1), "/data_schema_uri"),
        (with(SUCCESS, "/data", json!([])), "/data"),
        (with(SUCCESS, "/data/user_id", 7), "/data/user_id"),
        (with(SUCCESS, "/data/phase_results", json!([])), "/data/phase_results"),
        (with(SUCCESS, "/data/phase_results/spellcheck", Value::Null), "/data/phase_results/spellcheck"),
        (with(SUCCESS, "/data/phase_results", json!({ "a/b~c": {} })), "/data/phase_results/a~1b~0c/status"),
        (with(ASSESSMENT, "/data/rankings_summary", json!({})), "/data/rankings_summary"),
        (with(ASSESSMENT, "/data/rankings_summary", json!([{}, "essay-2"])), "/data/rankings_summary/1"),
    ] {
        let malformed = refused(&text);
        assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, pointer));
        assert!(malformed.to_string().starts_with(&format!("{pointer}: ")), "{malformed}");
        assert!(!malformed.to_string().contains("teacher-anna"), "quotes the event: {malformed}");
    }
}

#[test]
fn what_is_not_json_is_undecodable() {
    let cut_off = &SUCCESS[..SUCCESS.len() - 3];
    for text in ["", " ", "{", "hello", "{'a':1}", "{}{}", r#"{"a":}"#, r#"{"a":1,}"#, r#"{1:1}"#, cut_off] {
        assert_eq!(refused(text).outcome, Outcome::Undecodable, "{}", text.get(..80).unwrap_or(text));
    }
    for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\xef\xbb\xbf{}", b"\0"] {
        assert_eq!(Envelope::parse(bytes).expect_err("not JSON").outcome, Outcome::Undecodable, "{bytes:?}");
    }
    let marked = Envelope::parse(format!("\u{feff}{SUCCESS}").as_bytes()).expect_err("not JSON");
    assert!(marked.detail.contains("byte order mark"), "{marked}");
}

#[test]
fn json_that_is_no_envelope_is_malformed() {
    for text in ["null", "[]", "1", r#""text""#, "{}", "true"] {
        let malformed = refused(text);
        assert_eq!((malformed.outcome, malformed.event_id), (Outcome::Malformed, None), "{text}");
    }
    let crowded: Map<String, Value> = (0..300).map(|number| (number.to_string(), json!(0))).collect();
    assert!(refused(&Value::Object(crowded).to_string()).detail.contains("more than 256 fields"));
}
