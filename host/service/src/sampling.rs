//! Deterministic sampling of events: the same events are chosen each time, whatever the form of their ids.

use belfry_sandbox::digest;
use uuid::Uuid;

/// Returns an event's lot: uniformly distributed over all numbers, and always the same for the same event.
pub(crate) fn lot(event_id: &Uuid) -> u64 {
    // A hash, since ids that begin with a timestamp are not uniformly distributed.
    let [a, b, c, d, e, f, g, h, ..] = digest(event_id.as_bytes()).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
