use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time of this machine's clock, in milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Formats a recorded time as RFC 3339.
pub(crate) fn rfc3339(ms: i64) -> String {
    belfry_model::format_instant_ms(ms).unwrap_or_default()
}
