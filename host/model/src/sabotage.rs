//! Safeguards that a test can switch off. The switches exist only in builds with the feature `sabotage`; in all other
//! builds every safeguard is always on.

/// Returns whether a test switched a safeguard off by naming it in the environment variable `BELFRY_SABOTAGE`.
#[cfg(feature = "sabotage")]
pub fn sabotaged(safeguard: &str) -> bool {
    std::env::var("BELFRY_SABOTAGE").is_ok_and(|named| named.split(',').any(|name| name == safeguard))
}

/// Returns whether a test switched a safeguard off: always false in this build.
#[cfg(not(feature = "sabotage"))]
pub const fn sabotaged(_: &str) -> bool {
    false
}
