//! Safeguards that a test may switch off. They exist only in builds with the feature `sabotage`; everywhere else they are
//! nothing.

/// Whether a test has switched a safeguard off, by naming it in the environment's `BELFRY_SABOTAGE`.
#[cfg(feature = "sabotage")]
pub fn sabotaged(safeguard: &str) -> bool {
    std::env::var("BELFRY_SABOTAGE").is_ok_and(|named| named.split(',').any(|name| name == safeguard))
}

/// Whether a test has switched a safeguard off: never in this build.
#[cfg(not(feature = "sabotage"))]
pub const fn sabotaged(_: &str) -> bool {
    false
}
