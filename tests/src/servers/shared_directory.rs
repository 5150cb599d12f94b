use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A directory for a server that a whole test process shares. What is shared is never dropped in Rust, so the server's
/// guard removes it: see [`Lifetime::OursWithDirectory`](super::Lifetime::OursWithDirectory).
pub(super) fn shared_directory() -> Result<PathBuf> {
    Ok(TempDir::with_prefix("belfry-").context("cannot make a directory for a server")?.keep())
}
