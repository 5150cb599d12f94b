//! Payloads that are not JSON objects, and unusual ones that are.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::with_payload_text;

/// Not JSON.
pub(crate) fn invalid_payload(_: &Context) -> Answer {
    payload("this is not JSON")
}

/// An object over several lines, formatted by hand. Raw line breaks would break line-based protocols.
pub(crate) fn pretty_payload(_: &Context) -> Answer {
    payload("{\r\n\t\"message\" : \"two\\nlines\",\r\n\t\"list\" : [ 1.50,\n\t\t2 ]\r\n}\n")
}

/// JSON, but not an object.
pub(crate) fn array_payload(_: &Context) -> Answer {
    payload("[\"a list\"]")
}

/// Nested objects, 33 levels deep.
pub(crate) fn deep_payload(_: &Context) -> Answer {
    const LEVELS: usize = 33;
    payload(&format!("{}1{}", "{\"a\":".repeat(LEVELS), "}".repeat(LEVELS)))
}

/// An object of 65 KiB.
pub(crate) fn large_payload(_: &Context) -> Answer {
    payload(&object_of_bytes(65 * 1024))
}

fn payload(text: &str) -> Answer {
    Ok(vec![with_payload_text(text.to_owned())].into())
}

/// Returns a JSON object of exactly `bytes` bytes. It is allocated at once, and nothing is copied or grown: behaviours
/// that are about size should not reach a limit on time or memory first.
pub(crate) fn object_of_bytes(bytes: usize) -> String {
    const HEAD: &[u8] = b"{\"text\":\"";
    const TAIL: &[u8] = b"\"}";
    let mut object = vec![b'x'; bytes];
    object[..HEAD.len()].copy_from_slice(HEAD);
    object[bytes - TAIL.len()..].copy_from_slice(TAIL);
    String::from_utf8(object).expect("these are all ASCII")
}
