//! The limits on what a projector may return for one event.

/// Maximum number of notifications that one projector may return for one event.
pub const MAX_NOTIFICATIONS: usize = 1000;
/// Maximum size of a payload, in bytes as the projector wrote it.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// Maximum nesting depth of a payload.
pub const MAX_PAYLOAD_DEPTH: usize = 32;
/// Maximum length of a thread, in bytes.
pub(crate) const MAX_THREAD_BYTES: usize = 256;
/// Maximum size of a finished message, in bytes. Larger data belongs in storage, with a reference in the message.
pub const MAX_MESSAGE_BYTES: usize = 100_000;
