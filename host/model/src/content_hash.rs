use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Envelope;

/// SHA-256 of what an event says.
pub type ContentHash = [u8; 32];

/// Fields of `data` that a producer may mint anew when it repeats an event under the same id.
const MINTED_ANEW: [&str; 2] = ["timestamp", "system_metadata"];

#[derive(Serialize)]
struct Content<'a> {
    data: Data<'a>,
    event_type: &'a str,
}

/// An event's data without the fields that may differ in a repetition.
struct Data<'a>(&'a Value);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().filter(|(name, _)| !MINTED_ANEW.contains(&name.as_str())))
            }
            other => other.serialize(serializer),
        }
    }
}

/// The hash that tells a repeated event from another event under the same id: SHA-256 over the canonical form
/// (RFC 8785) of its type and its data, but for `timestamp` and `system_metadata`.
pub fn content_hash(envelope: &Envelope) -> ContentHash {
    let content = Content { data: Data(&envelope.data), event_type: &envelope.event_type };
    let mut hasher = Sha256::new();
    serde_json_canonicalizer::to_writer(&content, &mut HashWriter(&mut hasher))
        .expect("values from JSON have string keys and finite numbers");
    hasher.finalize().into()
}

/// Feeds text into the hash without keeping it.
struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(event_type: &str, data: &str) -> ContentHash {
        let text = format!(
            r#"{{"event_id":"a25fb85b-a5b0-523c-993b-2dc42602b95d","event_type":"{event_type}","event_timestamp":"2026-03-02T09:15:01Z","source_service":"s","data":{data}}}"#
        );
        content_hash(&Envelope::parse(text.as_bytes()).expect("an envelope"))
    }

    #[test]
    fn order_spacing_and_minted_fields_do_not_count() {
        let first = hash("t", r#"{"a":1,"b":[1.0,"x"],"timestamp":"now","system_metadata":{"c":1}}"#);
        assert_eq!(first, hash("t", r#"{ "timestamp":"later", "b":[1,"x"], "a":1 }"#));
    }

    #[test]
    fn everything_else_counts() {
        let first = hash("t", r#"{"a":1}"#);
        for (event_type, data) in [("u", r#"{"a":1}"#), ("t", r#"{"a":2}"#), ("t", r#"{"a":1,"b":null}"#), ("t", "[]")]
        {
            assert_ne!(first, hash(event_type, data), "{event_type} {data}");
        }
    }

    #[test]
    fn the_form_is_rfc_8785() {
        let canonical = br#"{"data":{"a":1,"b":"\u00f6"},"event_type":"t"}"#;
        let text = String::from_utf8_lossy(canonical).replace("\\u00f6", "ö");
        let expected: ContentHash = Sha256::digest(text.as_bytes()).into();
        assert_eq!(hash("t", r#"{"b":"\u00f6","a":1.0}"#), expected);
    }
}
