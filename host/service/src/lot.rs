//! Choosing some events and not others: the same ones each time, whatever their ids look like.

use belfry_sandbox::digest;
use uuid::Uuid;

/// An event's lot: spread evenly over all numbers, and always the same for the same event.
pub(crate) fn lot(event_id: &Uuid) -> u64 {
    // The ids themselves may begin with the time.
    let [a, b, c, d, e, f, g, h, ..] = digest(event_id.as_bytes()).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
