//! Access to the text of the event, for fields that the typed records do not have. Works only inside a component.

use serde_json::Value;

/// Returns the envelope's `data`.
pub fn data() -> Value {
    parse(&crate::bindings::belfry::projector::source::data())
}

/// Returns the envelope's `metadata`, if it has any.
pub fn metadata() -> Option<Value> {
    crate::bindings::belfry::projector::source::metadata().map(|text| parse(&text))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the host passes JSON that it has parsed")
}
