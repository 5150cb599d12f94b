//! Incoming events: what is read from them, which are refused, and where the error points.

mod examples;
mod properties;
mod refusals;

use belfry_model::{BatchAssessmentCompletedV1, BatchResultsReadyV1, Envelope, Event, Malformed};
use serde_json::Value;

const SUCCESS: &str = include_str!("../samples/batch_results_ready.success.json");
const FAILURES: &str = include_str!("../samples/batch_results_ready.with_failures.json");
const ASSESSMENT: &str = include_str!("../samples/batch_assessment_completed.json");
const NO_RANKINGS: &str = include_str!("../samples/batch_assessment_completed.empty.json");
const SAMPLES: [&str; 4] = [SUCCESS, FAILURES, ASSESSMENT, NO_RANKINGS];

const EVENT_ID: &str = "a25fb85b-a5b0-523c-993b-2dc42602b95d";
/// An unpaired surrogate: JSON's grammar allows it, but no Unicode text contains it.
const LONE_SURROGATE: &str = r"\ud800";

/// Parses a text as the service does.
fn read(text: &str) -> Result<(Envelope, Event), Malformed> {
    let envelope = Envelope::parse(text.as_bytes())?;
    let event = Event::from_envelope(&envelope)?;
    Ok((envelope, event))
}

fn envelope(text: &str) -> Envelope {
    read(text).expect("an event").0
}

fn refused(text: &str) -> Malformed {
    read(text).expect_err("not an event")
}

fn results_ready(text: &str) -> BatchResultsReadyV1 {
    match read(text).expect("an event").1 {
        Event::BatchResultsReadyV1(event) => event,
        other => panic!("another type: {other:?}"),
    }
}

fn assessment_completed(text: &str) -> BatchAssessmentCompletedV1 {
    match read(text).expect("an event").1 {
        Event::BatchAssessmentCompletedV1(event) => event,
        other => panic!("another type: {other:?}"),
    }
}

/// Returns the smallest envelope around `data`, with `more` as its last fields; both are JSON text.
fn wrapped(event_type: &str, data: &str, more: &str) -> String {
    format!(
        r#"{{"event_id":"{EVENT_ID}","event_type":"{event_type}","event_timestamp":"2026-03-02T09:15:01Z","source_service":"s","data":{data}{more}}}"#
    )
}

/// Returns a sample in which the value at `pointer` is replaced or added.
fn with(sample: &str, pointer: &str, value: impl Into<Value>) -> String {
    let (mut event, parent, name) = opened(sample, pointer);
    event.pointer_mut(parent).expect("the sample has the parent")[name] = value.into();
    event.to_string()
}

/// Returns a sample without the field at `pointer`.
fn without(sample: &str, pointer: &str) -> String {
    let (mut event, parent, name) = opened(sample, pointer);
    let fields = event.pointer_mut(parent).and_then(Value::as_object_mut).expect("the sample has the parent");
    fields.remove(name).expect("the sample has the field");
    event.to_string()
}

fn opened<'a>(sample: &str, pointer: &'a str) -> (Value, &'a str, &'a str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    (serde_json::from_str(sample).expect("samples are JSON"), parent, name)
}
