use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Creates a directory for a server that a whole test process shares. Rust never drops a shared server, so the server's
/// guard removes the directory: see [`Lifetime::OursWithDirectory`](super::Lifetime::OursWithDirectory).
pub(super) fn shared_directory() -> Result<PathBuf> {
    Ok(TempDir::with_prefix("belfry-").context("cannot create a directory for a server")?.keep())
}
