//! Ends a process when the process that started it is gone, for whatever reason.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::Signal;

/// Waits for a line from its starter, which dismisses it. End of input without a line means that the starter is gone:
/// then it ends the process, after 5 s with SIGKILL, and removes the directory.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
if read -r _; then exit; fi
kill -s "$1" "$0" 2>/dev/null
tries=0
while kill -s 0 "$0" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL "$0" 2>/dev/null
if [ -n "$2" ]; then sleep 0.1; rm -rf -- "$2"; fi
"#;

/// Watches over a process that this one started. Dropping it dismisses it: then its owner has ended the process, or
/// leaves it running.
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog for the process with this id. If this process is gone first, the watchdog sends `ending` to
    /// the other, and removes the directory unless its name is empty.
    pub(crate) fn of(pid: u32, ending: Signal, directory: &Path) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, &pid.to_string(), ending.name()])
            .arg(directory)
            .current_dir("/")
            // This process has the only other end of this pipe, which closes when it ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh, which ends a test's processes when the test ends")?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(mut line) = self.shell.stdin.take() {
            // If it is gone already, there is nothing to dismiss.
            let _ = line.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}
