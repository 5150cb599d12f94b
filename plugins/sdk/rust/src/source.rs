//! The event's own text, for fields that the typed records do not know. Works inside a component only.

use serde_json::Value;

/// The envelope's `data`.
pub fn data() -> Value {
    parse(&crate::bindings::belfry::projector::source::data())
}

/// The envelope's `metadata`, if it has any.
pub fn metadata() -> Option<Value> {
    crate::bindings::belfry::projector::source::metadata().map(|text| parse(&text))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the host gives JSON that it parsed before")
}
