use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time of this machine's clock, in milliseconds since 1970-01-01T00:00:00Z.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
