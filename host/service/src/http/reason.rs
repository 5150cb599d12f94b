//! Why somebody does something, in a line.

/// The longest reason.
pub(super) const MAX_REASON_BYTES: usize = 500;

/// Whether a text is a reason: a line that says something, as the log can have it.
pub(super) fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_REASON_BYTES && !text.contains(char::is_control)
}
