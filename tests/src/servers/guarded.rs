use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::watchdog::Watchdog;
use super::{ProcessId, Signal};

/// Time limit for a dropped server to exit cleanly.
const PATIENCE_ON_DROP: Duration = Duration::from_secs(10);
/// Number of log lines quoted in an error.
const LOG_LINES: usize = 20;

/// How long a server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped, but no longer than this process, even if this process is killed.
    #[default]
    Ours,
    /// The same; then this directory is removed.
    OursWithDirectory(PathBuf),
}

/// A program that runs in the background, with its output in a file.
pub struct Guarded {
    name: &'static str,
    child: Child,
    id: ProcessId,
    /// The signal sent on drop.
    ending: Signal,
    log: PathBuf,
    /// Offset in the log at which its own output begins.
    log_begins: u64,
    _watchdog: Watchdog,
    /// Whether it keeps running after this is dropped.
    is_left: bool,
}

impl Guarded {
    /// Starts a program. `ending` is the signal that ends it when this is dropped or this process ends.
    ///
    /// # Errors
    /// Returns an error if it cannot be started.
    pub fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
        lifetime: &Lifetime,
        ending: Signal,
    ) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {name}'s log {}", log.display()))?;
        let log_begins = file.metadata()?.len();
        // It gets its own process group, so that Ctrl-C at a terminal reaches only this process; the watchdog ends the
        // others.
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {name} ({:?})", command.get_program()))?;
        let removed = match lifetime {
            Lifetime::Ours => Path::new(""),
            Lifetime::OursWithDirectory(directory) => directory,
        };
        let watched = ProcessId::of(child.id()).and_then(|id| Ok((Watchdog::of(child.id(), ending, removed)?, id)));
        let (watchdog, id) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        };
        let log = log.to_owned();
        Ok(Self { name, child, id, ending, log, log_begins, _watchdog: watchdog, is_left: false })
    }

    /// Returns its process id.
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Polls `is_ready` until it returns true.
    ///
    /// # Errors
    /// Returns an error, with the end of its log, if it exits first or is not ready in time.
    pub async fn wait_until(&mut self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} exited with {status}; the end of its log {}", self.name, self.log_end());
            }
            if began.elapsed() > patience {
                bail!("{} was not ready within {patience:?}; the end of its log {}", self.name, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Sends it a signal and waits until it has exited.
    ///
    /// # Errors
    /// Returns an error if it does not exit in time; it is killed then.
    pub async fn end(mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.id.signal(signal)?;
        }
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > patience {
                self.child.kill()?;
                self.child.wait()?;
                let (name, signal) = (self.name, signal.name());
                bail!(
                    "{name} did not exit within {patience:?} after SIG{signal}, so it was killed; see {}",
                    self.log_end()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Leaves it running, even after this process has ended.
    pub fn leave(mut self) -> ProcessId {
        self.is_left = true;
        self.id.clone()
    }

    /// Returns the log's path and the last lines written.
    fn log_end(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let begins = usize::try_from(self.log_begins).unwrap_or(usize::MAX).min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[begins..]);
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let mut signal = Some(self.ending);
        let began = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if let Some(signal) = signal.take() {
                // A stopped process reacts only to SIGKILL, so it is continued first.
                let _ = self.id.signal(Signal::Continue);
                let _ = self.id.signal(signal);
            }
            if began.elapsed() > PATIENCE_ON_DROP {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Holds a server's process, so that it can be killed, paused and started again through a shared reference.
pub(super) struct Slot {
    name: &'static str,
    process: Mutex<Option<Guarded>>,
}

impl Slot {
    /// Creates a slot with a running process.
    pub(super) fn new(process: Guarded) -> Self {
        Self { name: process.name, process: Mutex::new(Some(process)) }
    }

    /// Returns the id of the running process.
    pub(super) fn id(&self) -> Result<ProcessId> {
        let process = self.lock();
        let process = process.as_ref().with_context(|| format!("{} is not running; start it again", self.name))?;
        Ok(process.id().clone())
    }

    /// Takes the process out, to end it.
    pub(super) fn take(&self) -> Result<Guarded> {
        self.lock().take().with_context(|| format!("{} is not running; start it again", self.name))
    }

    /// Puts in the next process.
    pub(super) fn put(&self, process: Guarded) {
        *self.lock() = Some(process);
    }

    /// Returns whether there is a process.
    pub(super) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
