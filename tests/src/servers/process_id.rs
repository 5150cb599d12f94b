use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A signal that can be sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGCONT: continue after `Stop`.
    Continue,
    /// SIGINT.
    Interrupt,
    /// SIGKILL: end at once, with no chance to clean up.
    Kill,
    /// SIGQUIT.
    Quit,
    /// SIGSTOP: pause.
    Stop,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Returns its name for `kill -s`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Continue => "CONT",
            Self::Interrupt => "INT",
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Terminate => "TERM",
        }
    }
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pid: u32,
    /// The kernel's boot id, and the clock tick since that boot at which the process started.
    started: String,
}

impl ProcessId {
    /// Returns the process that has this number now.
    ///
    /// # Errors
    /// Returns an error if no process has this number.
    pub fn of(pid: u32) -> Result<Self> {
        let status = Status::of(pid).with_context(|| format!("there is no process {pid}"))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { pid, started: format!("{}/{}", boot.trim(), status.started) })
    }

    /// Returns its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it has not ended yet; a stopped process has not.
    pub fn is_alive(&self) -> bool {
        // A zombie, which has ended but is not waited for yet, counts as ended.
        let ended = Status::of(self.pid).is_none_or(|status| matches!(status.state, 'Z' | 'X'));
        !ended && Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Returns whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        Status::of(self.pid).is_some_and(|status| status.state == 'T')
    }

    /// Returns the processor time that it has used.
    ///
    /// # Errors
    /// Returns an error if it has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let status = Status::of(self.pid).with_context(|| format!("there is no process {}", self.pid))?;
        // The kernel counts it in hundredths of a second.
        Ok(Duration::from_millis(10 * status.ticks))
    }

    /// Returns its child processes that are still running.
    pub fn children(&self) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| Status::of(*pid).is_some_and(|status| status.parent == self.pid))
            .filter_map(|pid| Self::of(pid).ok())
            .collect()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Returns an error if it has ended, or may not be sent signals by this process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            bail!("process {} has ended, so it cannot be sent SIG{}", self.pid, signal.name());
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"kill -s "$0" "$1""#, signal.name(), &self.pid.to_string()]);
        let output = shell.stdin(Stdio::null()).output().context("cannot run sh, which sends signals")?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("cannot send SIG{} to process {}: {}", signal.name(), self.pid, reason.trim());
        }
        Ok(())
    }

    /// Sends SIGSTOP and waits until it is stopped.
    ///
    /// # Errors
    /// Returns an error if it has ended.
    pub async fn stop_running(&self) -> Result<()> {
        self.signal(Signal::Stop)?;
        self.wait(Duration::from_secs(5), "did not stop", Self::is_stopped).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Returns an error if it still runs after `patience`.
    pub async fn wait_until_gone(&self, patience: Duration) -> Result<()> {
        self.wait(patience, "still runs", |process| !process.is_alive()).await
    }

    async fn wait(&self, patience: Duration, problem: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        while !done(self) {
            if began.elapsed() > patience {
                bail!("process {} {problem} after {patience:?}", self.pid);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Writes it to a file, so that a later process can find it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let text = format!("{}\n{}\n", self.pid, self.started);
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Returns the process saved in a file, if it is alive.
    pub fn load_alive(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        let noted = Self { pid: lines.next()?.parse().ok()?, started: lines.next()?.to_owned() };
        noted.is_alive().then_some(noted)
    }
}

struct Status {
    state: char,
    parent: u32,
    /// In user and in kernel mode, in hundredths of a second.
    ticks: u64,
    started: u64,
}

impl Status {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, which may itself contain spaces and parentheses.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // proc(5) numbers fields from 1: utime is 14, stime 15, starttime 22.
        let user: u64 = fields.nth(9)?.parse().ok()?;
        let kernel: u64 = fields.next()?.parse().ok()?;
        Some(Self { state, parent, ticks: user + kernel, started: fields.nth(6)?.parse().ok()? })
    }
}
