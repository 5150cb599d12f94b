use std::ffi::OsStr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::belfry_binary;

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a command may take.
const PATIENCE_WITH_A_COMMAND: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// And to standard error.
    pub stderr: String,
}

impl Ended {
    /// The lines of its output as JSON.
    ///
    /// # Errors
    /// If one is none.
    pub fn json(&self) -> Result<Vec<Value>> {
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("{line}\n{}", self.stderr));
        self.stdout.lines().map(parse).collect()
    }
}

/// Run the `belfry` command to its end.
///
/// # Errors
/// If it cannot be started, or does not end.
pub async fn belfry<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Ended> {
    let mut command = Command::new(belfry_binary()?);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let running = command.output();
    let output = timeout(PATIENCE_WITH_A_COMMAND, running)
        .await
        .with_context(|| format!("{:?} did not end within {PATIENCE_WITH_A_COMMAND:?}", command.as_std()))??;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Look again and again until something is so; what it saw last otherwise.
///
/// # Errors
/// If it does not become so in time, or looking fails.
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
