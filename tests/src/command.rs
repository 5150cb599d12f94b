use std::ffi::OsStr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::belfry_binary;

/// Time limit of [`eventually`].
const PATIENCE: Duration = Duration::from_secs(40);

/// Time limit for a command to exit.
const PATIENCE_WITH_A_COMMAND: Duration = Duration::from_secs(120);

/// The result of a command.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// Parses each line of its standard output as JSON.
    ///
    /// # Errors
    /// Returns an error if a line is not JSON.
    pub fn json(&self) -> Result<Vec<Value>> {
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("{line}\n{}", self.stderr));
        self.stdout.lines().map(parse).collect()
    }
}

/// Runs the `belfry` command and waits until it exits.
///
/// # Errors
/// Returns an error if it cannot be started or does not exit in time.
pub async fn belfry<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Ended> {
    let mut command = Command::new(belfry_binary()?);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let running = command.output();
    let output = timeout(PATIENCE_WITH_A_COMMAND, running)
        .await
        .with_context(|| format!("{:?} did not exit within {PATIENCE_WITH_A_COMMAND:?}", command.as_std()))??;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Polls `look` until `is_so` accepts its value. Returns that value.
///
/// # Errors
/// Returns an error if that does not happen in time, or if `look` fails.
pub async fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T>,
    mut is_so: impl FnMut(&T) -> bool,
) -> Result<T> {
    let began = Instant::now();
    loop {
        let seen = look().await?;
        if is_so(&seen) {
            return Ok(seen);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
