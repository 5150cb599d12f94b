use sha2::{Digest, Sha256};
use uuid::{Uuid, uuid};

use crate::Envelope;
use crate::canonical::canonical_without;

/// SHA-256 of an event's content, as returned by [`content_hash`].
pub type ContentHash = [u8; 32];

/// Fields of `data` that a producer may regenerate when it repeats an event under the same id.
const MINTED_ANEW: [&str; 2] = ["timestamp", "system_metadata"];

/// Returns the hash that distinguishes a repetition of an event from a different event under the same id: SHA-256 over
/// the canonical form of the event's type and data, without `timestamp` and `system_metadata`. Numbers count by their
/// exact value; see [`crate::canonical_json`].
pub fn content_hash(envelope: &Envelope) -> ContentHash {
    let data = canonical_without(&envelope.data_text, &MINTED_ANEW).expect("an envelope's data is within the limits");
    let event_type = serde_json::to_string(&envelope.event_type).expect("a string always serializes to JSON");
    let mut hasher = Sha256::new();
    for part in [r#"{"data":"#, &data, r#","event_type":"#, &event_type, "}"] {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The namespace of ids that are derived from an event's content: UUIDv5(DNS, "belfry.event-content.v1").
pub const CONTENT_NAMESPACE: Uuid = uuid!("24df2971-0839-511b-8038-c88eaff762e8");

/// Returns the id of an event that is identified by its content: UUIDv5 over the hash and the number of the time window
/// in which the event arrived (i64, big endian).
pub fn content_id(hash: &ContentHash, window: i64) -> Uuid {
    Uuid::new_v5(&CONTENT_NAMESPACE, &[hash.as_slice(), &window.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_content_and_window() {
        assert_eq!(CONTENT_NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"belfry.event-content.v1"));
        let (one, other) = (hash("t", r#"{"a":1}"#), hash("t", r#"{"a":2}"#));
        assert_eq!(content_id(&one, 7).to_string(), "832a36f2-068a-5078-be49-dfd7a9c62e11");
        assert_ne!(content_id(&one, 7), content_id(&one, 8));
        assert_ne!(content_id(&one, 7), content_id(&other, 7));
    }

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
        assert_ne!(first, hash("t", r#"{"a":1,"b":{"timestamp":1}}"#), "times in nested fields count");
    }

    #[test]
    fn numbers_count_by_their_exact_value() {
        for (one, other) in [("1", "1.0"), ("1", "10e-1"), ("9007199254740993", "9007199254740993.0")] {
            let of = |number: &str| hash("t", &format!(r#"{{"a":[{number}]}}"#));
            assert_eq!(of(one), of(other), "{one} {other}");
        }
        for (one, other) in [
            ("9007199254740992", "9007199254740993"),
            ("18446744073709551615", "18446744073709551614"),
            ("1e-400", "0"),
        ] {
            assert_ne!(hash("t", one), hash("t", other), "{one} {other}");
        }
    }

    /// Hashes are stored, so they must never change.
    #[test]
    fn the_form_is_rfc_8785() {
        let canonical = br#"{"data":{"a":1,"b":"\u00f6"},"event_type":"t"}"#;
        let text = String::from_utf8_lossy(canonical).replace("\\u00f6", "ö");
        let expected: ContentHash = Sha256::digest(text.as_bytes()).into();
        assert_eq!(hash("t", r#"{"b":"\u00f6","a":1.0}"#), expected);
    }
}
