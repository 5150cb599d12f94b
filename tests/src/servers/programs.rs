use std::path::PathBuf;

use anyhow::{Result, bail};

/// Finds a program on `PATH`, or in one of these directories.
///
/// # Errors
/// Returns an error if it is missing; `remedy` in the message describes how to install it.
pub(super) fn find_program(name: &str, also_in: &[PathBuf], remedy: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(also_in.iter().cloned())
        .map(|directory| directory.join(name))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!("{name} is missing; install it: {remedy}"),
    }
}

/// Returns whether this process runs as root.
pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
