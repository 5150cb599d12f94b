//! Properties of all events, and of arbitrary bytes.

use belfry_model::{
    BATCH_ASSESSMENT_COMPLETED_V1, BATCH_RESULTS_READY_V1, BatchAssessmentCompletedV1, BatchResultsReadyV1, Envelope,
    Event, PhaseResult, Ranking, canonical_json, content_hash,
};
use proptest::collection::{btree_map, vec};
use proptest::num::f64 as float;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{SAMPLES, assessment_completed, results_ready, wrapped};

/// Any text, line feeds included: without `(?s)`, `.` would exclude them.
fn text() -> impl Strategy<Value = String> {
    "(?s).{0,12}"
}

/// Any text that is a valid id.
fn id() -> impl Strategy<Value = String> {
    "[^\0]{0,12}"
}

/// Numbers that JSON can represent.
fn number() -> impl Strategy<Value = f64> {
    float::POSITIVE | float::NEGATIVE | float::NORMAL | float::SUBNORMAL | float::ZERO
}

fn any_results_ready() -> impl Strategy<Value = BatchResultsReadyV1> {
    let phases = btree_map(text(), (text(), any::<(i64, i64)>(), option::of(number())), 0..4).prop_map(|phases| {
        let phase = |(name, (status, (completed_count, failed_count), processing_time_seconds))| PhaseResult {
            name,
            status,
            completed_count,
            failed_count,
            processing_time_seconds,
        };
        phases.into_iter().map(phase).collect()
    });
    (id(), id(), any::<(i64, i64)>(), text(), number(), phases).prop_map(
        |(batch_id, user_id, (total_essays, completed_essays), overall_status, duration, phase_results)| {
            BatchResultsReadyV1 {
                batch_id,
                user_id,
                total_essays,
                completed_essays,
                overall_status,
                processing_duration_seconds: duration,
                phase_results,
            }
        },
    )
}

fn any_assessment_completed() -> impl Strategy<Value = BatchAssessmentCompletedV1> {
    let ranking = (
        option::of(text()),
        option::of(any::<i64>()),
        option::of(number()),
        option::of(text()),
        option::of(number()),
        option::of(text()),
    )
        .prop_map(|(essay_id, rank, score, letter_grade, confidence_score, confidence_label)| Ranking {
            essay_id,
            rank,
            score,
            letter_grade,
            confidence_score,
            confidence_label,
        });
    (id(), id(), text(), vec(ranking, 0..4)).prop_map(|(batch_id, user_id, assessment_job_id, rankings)| {
        BatchAssessmentCompletedV1 { batch_id, user_id, assessment_job_id, rankings }
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    json_with(any::<i64>())
}

/// JSON with integers that doubles represent exactly.
fn any_short_json() -> impl Strategy<Value = Value> {
    json_with(-(1_i64 << 53)..=1 << 53)
}

fn json_with(integer: impl Strategy<Value = i64> + 'static) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        integer.prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Returns the same JSON with the fields of all objects in reverse order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect(),
        Value::Array(items) => items.iter().map(reversed).collect(),
        other => other.clone(),
    }
}

/// Parses the bytes and uses the result. Must not panic, whatever the bytes are.
fn exercise(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = (Event::from_envelope(&envelope), content_hash(&envelope), envelope.subject(Some("/user_id")));
    }
}

proptest! {
    #[test]
    fn results_arrive_with_the_values_they_left_with(event in any_results_ready()) {
        let phases: Map<String, Value> = event
            .phase_results
            .iter()
            .map(|phase| {
                let fields = json!({
                    "status": phase.status, "completed_count": phase.completed_count,
                    "failed_count": phase.failed_count, "processing_time_seconds": phase.processing_time_seconds,
                });
                (phase.name.clone(), fields)
            })
            .collect();
        let data = json!({
            "batch_id": event.batch_id, "user_id": event.user_id, "total_essays": event.total_essays,
            "completed_essays": event.completed_essays, "overall_status": event.overall_status,
            "processing_duration_seconds": event.processing_duration_seconds, "phase_results": phases,
        });
        let arrived = results_ready(&wrapped(BATCH_RESULTS_READY_V1, &data.to_string(), ""));
        prop_assert_eq!(arrived, event);
    }

    #[test]
    fn assessments_arrive_with_the_values_they_left_with(event in any_assessment_completed()) {
        let rankings: Vec<_> = event
            .rankings
            .iter()
            .map(|ranking| {
                json!({
                    "essay_id": ranking.essay_id, "rank": ranking.rank, "score": ranking.score,
                    "letter_grade": ranking.letter_grade, "confidence_score": ranking.confidence_score,
                    "confidence_label": ranking.confidence_label,
                })
            })
            .collect();
        let data = json!({
            "batch_id": event.batch_id, "user_id": event.user_id, "assessment_job_id": event.assessment_job_id,
            "rankings_summary": rankings,
        });
        let arrived = assessment_completed(&wrapped(BATCH_ASSESSMENT_COMPLETED_V1, &data.to_string(), ""));
        prop_assert_eq!(arrived, event);
    }

    #[test]
    fn other_data_arrives_as_it_left(data in any_json(), metadata in option::of(btree_map(text(), any_json(), 0..3))) {
        let metadata = metadata.map(|fields| Value::Object(fields.into_iter().collect()));
        let more = metadata.as_ref().map(|fields| format!(r#","metadata":{fields}"#)).unwrap_or_default();
        let envelope = Envelope::parse(wrapped("t", &data.to_string(), &more).as_bytes()).expect("an envelope");
        prop_assert_eq!(&*envelope.data_text, data.to_string());
        prop_assert_eq!(envelope.data, data);
        prop_assert_eq!(envelope.metadata.map(Value::Object), metadata);
    }

    #[test]
    fn the_hash_knows_neither_order_nor_spacing(data in any_json()) {
        let hash = |data: &str| {
            content_hash(&Envelope::parse(wrapped("t", data, "").as_bytes()).expect("an envelope"))
        };
        let pretty = serde_json::to_string_pretty(&reversed(&data)).expect("JSON");
        prop_assert_eq!(hash(&data.to_string()), hash(&pretty));
    }

    /// Stored hashes stay valid where RFC 8785 rounds nothing.
    #[test]
    fn the_canonical_form_is_that_of_rfc_8785(data in any_short_json()) {
        let text = serde_json::to_string_pretty(&reversed(&data)).expect("JSON");
        let ours = canonical_json(serde_json::from_str(&text).expect("JSON")).expect("within the limits");
        prop_assert_eq!(ours, serde_json_canonicalizer::to_string(&data).expect("JSON"));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,100}", fields in "[{}\\[\\]\",:0-9a-z\\\\ -]{0,100}") {
        exercise(text.as_bytes());
        exercise(fields.as_bytes());
        exercise(wrapped("t", &fields, "").as_bytes());
    }

    #[test]
    fn no_damage_to_an_event_makes_the_reader_panic(
        sample in 0..SAMPLES.len(), place: prop::sample::Index, cut in 0_usize..20, damage in vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = SAMPLES[sample].as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes.splice(place..(place + cut).min(SAMPLES[sample].len()), damage);
        exercise(&bytes);
    }
}
