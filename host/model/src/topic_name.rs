/// Maximum length of a topic's name, in bytes.
const MAX_BYTES: usize = 249;

/// Returns whether a Kafka topic can have this name: 1 to 249 of the characters `a` to `z`, `A` to `Z`, `0` to `9`, `.`, `_`
/// and `-`, and not `.` or `..` alone.
pub fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(is_allowed) && name != "." && name != ".."
}
