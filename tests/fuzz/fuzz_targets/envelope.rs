//! Arbitrary bytes as an event, as they come from Kafka and HTTP.
#![no_main]

use std::borrow::Cow;

use belfry_model::{
    BATCH_ASSESSMENT_COMPLETED_V1, BATCH_RESULTS_READY_V1, Envelope, Event, Malformed, Outcome, canonical_json,
    content_hash, format_instant_ms, parse_instant_ms,
};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Deserializer, Value, json};

/// Pointers into the samples' data and around them, and one that is not a pointer.
const POINTERS: [&str; 6] =
    ["", "/user_id", "/phase_results/spellcheck/status", "/rankings_summary/0/rank", "/~1", "user_id"];

fuzz_target!(|input: &[u8]| {
    let bytes = text(input);
    match Envelope::parse(&bytes) {
        Ok(envelope) => check_accepted(&bytes, &envelope),
        Err(malformed) => check_refused(&bytes, &malformed),
    }
});

/// JSON never begins with a control character. Input that does selects with it the part of a valid envelope that
/// the rest is, so that the code that parses the parts is covered. Other input is the text itself.
fn text(input: &[u8]) -> Cow<'_, [u8]> {
    let (event_type, before, rest, after) = match input {
        [1, rest @ ..] => (BATCH_RESULTS_READY_V1, "", rest, ""),
        [2, rest @ ..] => (BATCH_ASSESSMENT_COMPLETED_V1, "", rest, ""),
        [3, rest @ ..] => ("other", "", rest, ""),
        [4, rest @ ..] => ("other", r#"{"user_id":"anna"},"metadata":"#, rest, ""),
        [5, rest @ ..] => ("other", r#"{"user_id":"anna"},"#, rest, r#":[]"#),
        _ => return Cow::Borrowed(input),
    };
    let head = format!(
        r#"{{"event_id":"a25fb85b-a5b0-523c-993b-2dc42602b95d","event_type":"{event_type}","event_timestamp":"2026-03-02T09:15:01","source_service":"s","data":{before}"#
    );
    Cow::Owned([head.as_bytes(), rest, after.as_bytes(), b"}"].concat())
}

fn check_accepted(bytes: &[u8], envelope: &Envelope) {
    let whole = whole(bytes).expect("an accepted envelope is JSON for other readers too");
    assert_eq!(whole["data"], envelope.data, "another reader sees other data");
    if let Some(metadata) = &envelope.metadata {
        assert_eq!(whole["metadata"].as_object(), Some(metadata), "another reader sees other metadata");
    }
    assert!(!envelope.event_type.contains('\0'), "the databases' text types cannot hold U+0000");
    let time = format_instant_ms(envelope.occurred_at_ms).expect("a time that was read can be written");
    assert_eq!(parse_instant_ms(&time), Ok(envelope.occurred_at_ms), "{time} is parsed as another time");
    match Event::from_envelope(envelope) {
        Ok(Event::BatchResultsReadyV1(event)) => check_ids(&event.batch_id, &event.user_id),
        Ok(Event::BatchAssessmentCompletedV1(event)) => check_ids(&event.batch_id, &event.user_id),
        Ok(Event::Other) => {}
        Err(malformed) => assert_eq!(malformed.event_id, Some(envelope.event_id), "the event's id is known by then"),
    }
    // Arbitrary text as the pointer, too: projectors choose it.
    for pointer in POINTERS.into_iter().chain([envelope.event_type.as_str()]) {
        envelope.subject(Some(pointer));
    }
    envelope.subject(None);

    // The distinction between a repetition and a conflict must not depend on how a producer formats its JSON.
    let again = rewritten(envelope);
    let again = Envelope::parse(again.as_bytes()).expect("the canonical form of an envelope is an envelope");
    assert_eq!(content_hash(&again), content_hash(envelope), "the same content has another hash");
}

fn check_ids(batch_id: &str, user_id: &str) {
    assert!(!batch_id.contains('\0') && !user_id.contains('\0'), "the databases' text types cannot hold U+0000");
}

fn check_refused(bytes: &[u8], malformed: &Malformed) {
    assert!(malformed.pointer.is_empty() || malformed.pointer.starts_with('/'), "not a pointer: {malformed:?}");
    match malformed.outcome {
        Outcome::Malformed => {}
        Outcome::Undecodable => {
            assert!(serde_json::from_slice::<Value>(bytes).is_err(), "this is JSON: {malformed:?}");
        }
        other => panic!("not an outcome of parsing: {other}"),
    }
}

/// Parses the text like another reader. Without a limit on depth: the envelope adds a level to the depth allowed for a
/// field.
fn whole(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reader = Deserializer::from_slice(bytes);
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Returns the same envelope in canonical form, except for the order of its own fields.
fn rewritten(envelope: &Envelope) -> String {
    let canonical = |json: &str| {
        canonical_json(serde_json::from_str(json).expect("JSON")).expect("what was read is within the limits")
    };
    format!(
        r#"{{"event_id":"{}","event_type":{},"event_timestamp":{},"source_service":{},"data":{}}}"#,
        envelope.event_id,
        canonical(&json!(envelope.event_type).to_string()),
        canonical(&json!(envelope.event_timestamp).to_string()),
        canonical(&json!(envelope.source_service).to_string()),
        canonical(&envelope.data_text),
    )
}
