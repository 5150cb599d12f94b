//! A Belfry with an SQLite database, under load and through faults. `make soak` chooses rounds and seed.

mod full_disk;
mod kills;
mod load;

/// A number from the environment.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
