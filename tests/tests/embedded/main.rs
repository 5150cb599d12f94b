//! Belfry with an SQLite database, under load and faults. `make soak` sets rounds and seed.

mod full_disk;
mod kills;
mod load;

/// Returns a number from an environment variable.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
