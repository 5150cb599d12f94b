//! Reasons that operators give for a change.

/// Maximum length of a reason, in bytes.
pub(super) const MAX_REASON_BYTES: usize = 500;

/// Returns whether a text is a valid reason: one nonblank line without control characters, so that it can be logged.
pub(super) fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_REASON_BYTES && !text.contains(char::is_control)
}
