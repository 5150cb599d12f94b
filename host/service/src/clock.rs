/// Formats a recorded time as RFC 3339.
pub(crate) fn rfc3339(ms: i64) -> String {
    belfry_model::format_instant_ms(ms).unwrap_or_default()
}
