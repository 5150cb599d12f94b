//! Tests of single events.

use std::slice;

use belfry_model::{
    BATCH_ASSESSMENT_COMPLETED_V1, BATCH_RESULTS_READY_V1, BatchResultsReadyV1, Event, Outcome, PhaseResult, Ranking,
    content_hash,
};
use serde_json::{Map, Value, json};

use super::{
    ASSESSMENT, EVENT_ID, FAILURES, LONE_SURROGATE, NO_RANKINGS, SUCCESS, assessment_completed, envelope, read,
    refused, results_ready, with, without, wrapped,
};

#[test]
fn a_sample_of_results_becomes_its_typed_event() {
    let envelope = envelope(SUCCESS);
    assert_eq!(envelope.event_id.to_string(), EVENT_ID);
    assert_eq!(envelope.event_type, BATCH_RESULTS_READY_V1);
    assert_eq!(envelope.event_timestamp, "2026-03-02T09:15:01Z");
    assert_eq!(envelope.occurred_at_ms, 1_772_442_901_000);
    assert_eq!(envelope.source_service, "result_aggregator_service");
    assert_eq!(envelope.schema_version, 1);
    assert_eq!(envelope.correlation_id.to_string(), "5487100a-3a58-5358-ae3f-a56e6cba22a2");
    assert_eq!(envelope.metadata_str("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));

    let phase = |name: &str, processing_time_seconds| PhaseResult {
        name: name.into(),
        status: "completed".into(),
        completed_count: 28,
        failed_count: 0,
        processing_time_seconds,
    };
    let expected = BatchResultsReadyV1 {
        batch_id: "batch-eng5-0001".into(),
        user_id: "teacher-anna".into(),
        total_essays: 28,
        completed_essays: 28,
        overall_status: "completed_successfully".into(),
        processing_duration_seconds: 412.5,
        phase_results: vec![phase("spellcheck", Some(41.25)), phase("cj_assessment", None)],
    };
    assert_eq!(results_ready(SUCCESS), expected);
}

#[test]
fn the_other_samples_become_their_typed_events() {
    let failures = results_ready(FAILURES);
    assert_eq!(failures.user_id, "teacher-björn");
    assert_eq!((failures.total_essays, failures.completed_essays), (31, 28));
    let counts: Vec<_> =
        failures.phase_results.iter().map(|phase| (phase.completed_count, phase.failed_count)).collect();
    assert_eq!(counts, [(29, 2), (28, 3)]);

    let assessment = assessment_completed(ASSESSMENT);
    assert_eq!(assessment.assessment_job_id, "cj-job-77");
    assert_eq!(assessment.rankings.len(), 5);
    let last = Ranking {
        essay_id: Some("essay-5".into()),
        rank: Some(5),
        score: Some(-0.7),
        letter_grade: Some("F".into()),
        confidence_score: Some(0.55),
        confidence_label: Some("LOW".into()),
    };
    assert_eq!(assessment.rankings.last(), Some(&last));

    let none = assessment_completed(NO_RANKINGS);
    assert_eq!((none.user_id.as_str(), none.rankings), ("teacher-cecilia", Vec::new()));
}

#[test]
fn types_without_a_record_keep_their_data_in_the_envelope() {
    for data in ["null", "[]", "7", r#"{"batch_id":5}"#] {
        let (envelope, event) = read(&wrapped("essay.deleted.v1", data, "")).expect("an event");
        assert_eq!((event, &*envelope.data_text), (Event::Other, data));
    }
}

#[test]
fn data_and_metadata_survive_to_the_byte() {
    let data =
        "{ \"unknown\" : [1.50, 12345678901234567890123, \"\\u00f6\\/\"],\n \"user_id\":\"a\",\"user_id\":\"b\" }";
    let metadata = r#"{ "mystery":{"a":1e2},  "a":1,"a":2 }"#;
    let envelope = envelope(&wrapped("t", data, &format!(r#", "metadata": {metadata} , "also_unknown":[{{}}]"#)));
    assert_eq!(&*envelope.data_text, data);
    assert_eq!(envelope.metadata_text.as_deref(), Some(metadata));
}

#[test]
fn a_field_that_the_envelope_has_twice_is_malformed() {
    // The last field spells "data" with an escape; to a reader the names are the same.
    for field in [r#""event_type":"t""#, r#""data":{}"#, r#""unknown":1,"unknown":1"#, r#""d\u0061ta":{}"#] {
        let malformed = refused(&wrapped("t", "{}", &format!(",{field}")));
        assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, ""), "{field}");
        assert!(malformed.detail.contains("twice"), "{field}: {malformed}");
    }
}

#[test]
fn of_a_field_that_data_has_twice_the_last_counts() {
    let text = SUCCESS.replace(r#""total_essays": 28"#, r#""total_essays": "many", "total_essays": 29"#);
    assert_eq!(results_ready(&text).total_essays, 29);
    let text = SUCCESS.replace(r#""user_id": "teacher-anna""#, r#""user_id": "teacher-anna", "user_id": null"#);
    assert_eq!(refused(&text).pointer, "/data/user_id");
    let twice = envelope(&wrapped("t", r#"{"a":1,"b":{"c":1,"c":2},"a":3}"#, ""));
    assert_eq!(content_hash(&twice), content_hash(&envelope(&wrapped("t", r#"{"a":3,"b":{"c":2}}"#, ""))));
}

#[test]
fn lone_surrogates_are_refused_wherever_they_stand() {
    let data = |data: &str| wrapped("t", data, "");
    let more = |more: &str| wrapped("t", "{}", more);
    for (text, pointer) in [
        (wrapped(LONE_SURROGATE, "{}", ""), "/event_type"),
        (data(&format!(r#"{{"a":["{LONE_SURROGATE}"]}}"#)), "/data"),
        (data(&format!(r#"{{"{LONE_SURROGATE}":1}}"#)), "/data"),
        (data(r#"["\udc00\ud800"]"#), "/data"),
        (more(&format!(r#","metadata":{{"a":"{LONE_SURROGATE}"}}"#)), "/metadata"),
        (more(&format!(r#","data_schema_uri":"{LONE_SURROGATE}""#)), "/data_schema_uri"),
        (more(&format!(r#","correlation_id":"{LONE_SURROGATE}""#)), "/correlation_id"),
        (more(&format!(r#","unknown":"{LONE_SURROGATE}""#)), "/unknown"),
        (more(&format!(r#","unknown":{{"a":[{{"{LONE_SURROGATE}":0}}]}}"#)), "/unknown"),
        (more(&format!(r#","un~k/nown":"{LONE_SURROGATE}""#)), "/un~0k~1nown"),
        (more(&format!(r#","{LONE_SURROGATE}":1"#)), ""),
    ] {
        assert_eq!(refused(&text).pointer, pointer, "{text}");
    }
    let pair = envelope(&data(r#"{"user_id":"\ud83d\ude00"}"#));
    assert_eq!(pair.data_str("user_id"), Some("😀"), "a surrogate pair is a character");
}

#[test]
fn u0000_is_malformed_in_ids_and_in_the_type() {
    for (text, pointer) in [
        (with(SUCCESS, "/event_type", "t\0"), "/event_type"),
        (with(SUCCESS, "/data/batch_id", "\0"), "/data/batch_id"),
        (with(SUCCESS, "/data/user_id", "a\0b"), "/data/user_id"),
        (with(ASSESSMENT, "/data/batch_id", "\0"), "/data/batch_id"),
        (with(ASSESSMENT, "/data/user_id", "a\0b"), "/data/user_id"),
        (wrapped("t", r#"{"batch_id":"\u0000"}"#, ""), "/data/batch_id"),
        (wrapped("t", r#"{"user_id":"a\u0000b"}"#, ""), "/data/user_id"),
    ] {
        let malformed = refused(&text);
        assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, pointer), "{text}");
        assert!(malformed.detail.contains("U+0000"), "{malformed}");
    }
}

#[test]
fn u0000_passes_everywhere_else() {
    assert_eq!(envelope(&with(SUCCESS, "/source_service", "s\0")).source_service, "s\0");
    assert_eq!(results_ready(&with(SUCCESS, "/data/overall_status", "\0")).overall_status, "\0");
    assert_eq!(assessment_completed(&with(ASSESSMENT, "/data/assessment_job_id", "\0")).assessment_job_id, "\0");
    let phase = with(
        SUCCESS,
        "/data/phase_results",
        json!({ "\0": { "status": "\0", "completed_count": 0, "failed_count": 0 } }),
    );
    assert_eq!(results_ready(&phase).phase_results[0].name, "\0");
    for text in
        [with(SUCCESS, "/data/unknown", "\0"), with(SUCCESS, "/metadata/unknown", "\0"), with(SUCCESS, "/\0", "\0")]
    {
        envelope(&text);
    }
}

#[test]
fn counts_are_integers_and_nothing_else() {
    for (value, count) in [
        (json!(28), 28),
        (json!(28.0), 28),
        (json!(-0.0), 0),
        (json!(2.8e1), 28),
        (json!(i64::MAX), i64::MAX),
        (json!(i64::MIN), i64::MIN),
    ] {
        let text = with(SUCCESS, "/data/total_essays", value.clone());
        assert_eq!(results_ready(&text).total_essays, count, "{value}");
    }
    for value in [
        json!("28"),
        json!(28.5),
        json!(null),
        json!(true),
        json!([28]),
        json!(9_223_372_036_854_775_808_u64),
        json!(9_223_372_036_854_775_808.0),
        // Serialized, it is -9223372036854775808 rounded, which is out of range.
        json!(-9_223_372_036_854_775_808.0),
        json!(1e300),
    ] {
        for pointer in ["/data/total_essays", "/data/phase_results/spellcheck/failed_count"] {
            let malformed = refused(&with(SUCCESS, pointer, value.clone()));
            assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, pointer), "{value}");
        }
    }
}

#[test]
fn counts_are_not_rounded() {
    for (text, count) in [("9007199254740993.0", Some(9_007_199_254_740_993)), ("28.00000000000000000001", None)] {
        let event = SUCCESS.replace(r#""total_essays": 28"#, &format!(r#""total_essays": {text}"#));
        match count {
            Some(count) => assert_eq!(results_ready(&event).total_essays, count),
            None => assert_eq!(refused(&event).pointer, "/data/total_essays"),
        }
        let event = wrapped(
            BATCH_ASSESSMENT_COMPLETED_V1,
            &format!(
                r#"{{"batch_id":"b","user_id":"u","assessment_job_id":"a","rankings_summary":[{{}},{{"rank":{text}}}]}}"#
            ),
            "",
        );
        assert_eq!(assessment_completed(&event).rankings[1].rank, count);
    }
}

#[test]
fn durations_are_numbers_and_nothing_else() {
    assert_eq!(results_ready(&with(SUCCESS, "/data/processing_duration_seconds", 7)).processing_duration_seconds, 7.0);
    for pointer in ["/data/processing_duration_seconds", "/data/phase_results/spellcheck/processing_time_seconds"] {
        for value in [json!("41.25"), json!(true), json!({})] {
            assert_eq!(refused(&with(SUCCESS, pointer, value)).pointer, pointer);
        }
    }
    assert_eq!(refused(&with(SUCCESS, "/data/processing_duration_seconds", Value::Null)).outcome, Outcome::Malformed);
    let unknown = without(SUCCESS, "/data/phase_results/spellcheck/processing_time_seconds");
    assert_eq!(results_ready(&unknown).phase_results[0].processing_time_seconds, None);
}

#[test]
fn numbers_that_json_does_not_have_are_refused() {
    for number in ["NaN", "Infinity", "-Infinity", "01", "1.", "+1", "0x1c"] {
        let text = SUCCESS.replace("412.5", number);
        assert_eq!(read(&text).expect_err(number).outcome, Outcome::Undecodable, "{number}");
    }
}

#[test]
fn a_ranking_field_of_another_type_is_as_good_as_absent() {
    let nothing = Ranking {
        essay_id: None,
        rank: None,
        score: None,
        letter_grade: None,
        confidence_score: None,
        confidence_label: None,
    };
    for ranking in [
        json!({}),
        json!({ "essay_id": 7, "rank": "1", "score": "2.1", "letter_grade": null, "confidence_score": [], "confidence_label": {} }),
        json!({ "essay_id": true, "rank": 1.5, "score": false, "letter_grade": 1.0, "confidence_score": {}, "confidence_label": ["HIGH"] }),
        json!({ "rank": u64::MAX, "unknown": "field" }),
    ] {
        let text = with(ASSESSMENT, "/data/rankings_summary", json!([ranking]));
        assert_eq!(assessment_completed(&text).rankings, slice::from_ref(&nothing), "{ranking}");
    }
    let text = with(ASSESSMENT, "/data/rankings_summary", json!([{ "rank": -3.0, "score": 2 }]));
    assert_eq!(
        assessment_completed(&text).rankings[0],
        Ranking { rank: Some(-3), score: Some(2.0), ..nothing },
        "numbers in another notation are numbers"
    );
}

#[test]
fn what_may_be_missing_has_a_default() {
    let nulls = r#","correlation_id":null,"schema_version":null,"metadata":null,"data_schema_uri":null"#;
    for more in ["", nulls] {
        let bare = envelope(&wrapped("t", "{}", more));
        assert_eq!(bare.correlation_id, bare.event_id);
        assert_eq!(bare.schema_version, 1);
        assert_eq!((bare.metadata, bare.metadata_text), (None, None));
        assert_eq!((bare.partition_key, bare.batch_id), (None, None));
    }
    let given =
        envelope(&wrapped("t", "{}", r#","schema_version":2.0,"data_schema_uri":"https://example.org/schema""#));
    assert_eq!(given.schema_version, 2);
}

#[test]
fn schema_versions_are_small_integers() {
    for version in ["-1", "4294967296", "1.5", "1.00000000000000000001", "1e99", r#""1""#, "true", "[]"] {
        let malformed = refused(&wrapped("t", "{}", &format!(r#","schema_version":{version}"#)));
        assert_eq!(
            (malformed.outcome, malformed.pointer.as_str()),
            (Outcome::Malformed, "/schema_version"),
            "{version}"
        );
    }
    assert_eq!(envelope(&with(SUCCESS, "/schema_version", u32::MAX)).schema_version, u32::MAX);
}

#[test]
fn a_time_without_a_zone_is_utc_and_keeps_its_text() {
    for (text, ms) in [
        ("2026-03-02T09:15:01", 1_772_442_901_000),
        ("2026-03-02T09:15:01.0009", 1_772_442_901_000),
        ("2026-03-02T10:15:01.123456+01:00", 1_772_442_901_123),
        ("1969-12-31T23:59:59.9999", -1),
    ] {
        let envelope = envelope(&with(SUCCESS, "/event_timestamp", text));
        assert_eq!((envelope.event_timestamp.as_str(), envelope.occurred_at_ms), (text, ms));
    }
}

#[test]
fn metadata_is_an_object_or_nothing() {
    for nothing in [without(SUCCESS, "/metadata"), with(SUCCESS, "/metadata", Value::Null)] {
        let envelope = envelope(&nothing);
        assert_eq!((envelope.metadata, envelope.metadata_text), (None, None));
    }
    assert_eq!(envelope(&with(SUCCESS, "/metadata", json!({}))).metadata, Some(Map::new()));
    assert_eq!(envelope(&with(SUCCESS, "/metadata/traceparent", 1)).metadata_str("traceparent"), None);
    for other in [json!([]), json!("null"), json!(0), json!(false)] {
        let malformed = refused(&with(SUCCESS, "/metadata", other));
        assert_eq!((malformed.outcome, malformed.pointer.as_str()), (Outcome::Malformed, "/metadata"));
    }
}

#[test]
fn a_key_is_text_or_the_text_of_a_number() {
    let keyed = |key: &str| {
        wrapped("t", &format!(r#"{{"batch_id":{key}}}"#), &format!(r#","metadata":{{"partition_key":{key}}}"#))
    };
    for (key, text) in [
        (r#""a""#, Some("a")),
        ("7", Some("7")),
        ("-7.50", Some("-7.50")),
        ("12345678901234567890123", Some("12345678901234567890123")),
        ("null", None),
        (r#""""#, Some("")),
    ] {
        let envelope = envelope(&keyed(key));
        assert_eq!((envelope.partition_key.as_deref(), envelope.batch_id.as_deref()), (text, text), "{key}");
    }
    for key in ["true", "[]", r#"{"a":1}"#] {
        let malformed = refused(&wrapped("t", "{}", &format!(r#","metadata":{{"partition_key":{key}}}"#)));
        assert_eq!((malformed.outcome, &*malformed.pointer), (Outcome::Malformed, "/metadata/partition_key"));
        let malformed = refused(&wrapped("t", &format!(r#"{{"batch_id":{key}}}"#), ""));
        assert_eq!((malformed.outcome, &*malformed.pointer), (Outcome::Malformed, "/data/batch_id"));
    }
}

#[test]
fn the_subject_is_what_the_pointer_finds_or_the_next_best() {
    let data = r#"{"user_id":"anna","owner":{"id":"björn","number":7.0,"a/b":"slash"},"list":["first"],"flag":true}"#;
    let full = envelope(&wrapped("t", data, r#","metadata":{"partition_key":"p"}"#));
    for (pointer, subject) in [
        (Some("/owner/id"), "björn"),
        (Some("/owner/number"), "7.0"),
        (Some("/owner/a~1b"), "slash"),
        (Some("/list/0"), "first"),
        // No value there, or neither a string nor a number: the same as no pointer.
        (Some("/missing"), "anna"),
        (Some("/list/9"), "anna"),
        (Some("/flag"), "anna"),
        (Some("/owner"), "anna"),
        (Some(""), "anna"),
        (Some("no pointer"), "anna"),
        (None, "anna"),
    ] {
        assert_eq!(full.subject(pointer), subject, "{pointer:?}");
    }
    let no_user = envelope(&wrapped("t", r#"{"user_id":5}"#, r#","metadata":{"partition_key":"p"}"#));
    assert_eq!(no_user.subject(None), "5");
    assert_eq!(no_user.subject(Some("/user_id")), "5");
    let large =
        envelope(&wrapped("t", r#"{"user":{"id":12345678901234567890123}}"#, r#","metadata":{"partition_key":1}"#));
    assert_eq!(large.subject(Some("/user/id")), "12345678901234567890123", "not rounded");
    assert_eq!(large.subject(None), "1");
    assert_eq!(envelope(&wrapped("t", "[]", "")).subject(None), EVENT_ID);
    assert_eq!(envelope(&wrapped("t", r#""text""#, "")).subject(Some("")), "text", "a pointer to the data as a whole");
}
