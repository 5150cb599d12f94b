use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::watchdog::Watchdog;
use super::{ProcessId, Signal};

/// How long a server that is dropped may take to end in good order.
const PATIENCE_ON_DROP: Duration = Duration::from_secs(10);
/// How much of a log is quoted in an error.
const LOG_LINES: usize = 20;

/// How long a server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped, and at the latest until this process ends, even by SIGKILL.
    #[default]
    Ours,
    /// The same, and then this directory is removed.
    OursWithDirectory(PathBuf),
}

/// A program that runs in the background, with its output in a file.
pub struct Guarded {
    name: &'static str,
    child: Child,
    id: ProcessId,
    /// What it is sent when it is dropped.
    ending: Signal,
    log: PathBuf,
    /// Where in the log its own output begins.
    log_begins: u64,
    _watchdog: Watchdog,
    /// Whether it runs on when this is dropped.
    is_left: bool,
}

impl Guarded {
    /// Start it. `ending` is the signal that ends it when it is dropped or this process ends.
    ///
    /// # Errors
    /// If it cannot be started.
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
        // In a group of its own, so that Ctrl-C at a terminal is for this process only; the watchdog ends the rest.
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

    /// Its process.
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Wait until `is_ready`, which is asked again and again.
    ///
    /// # Errors
    /// If it ends before, or is not ready in time; with the end of its log.
    pub async fn wait_until(&mut self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; the end of its log {}", self.name, self.log_end());
            }
            if began.elapsed() > patience {
                bail!("{} was not ready within {patience:?}; the end of its log {}", self.name, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Send it a signal and wait until it has ended.
    ///
    /// # Errors
    /// If it does not end in time; it is killed then.
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
                bail!("{name} did not end {patience:?} after SIG{signal}, so it was killed; see {}", self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Let it run on, also after this process.
    pub fn leave(mut self) -> ProcessId {
        self.is_left = true;
        self.id.clone()
    }

    /// The last lines that it wrote, and where.
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
                // One that stands still hears nothing but SIGKILL.
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

/// The process of a server that is killed, paused and started again while others hold the server.
pub(super) struct Slot {
    name: &'static str,
    process: Mutex<Option<Guarded>>,
}

impl Slot {
    /// With a process that runs.
    pub(super) fn new(process: Guarded) -> Self {
        Self { name: process.name, process: Mutex::new(Some(process)) }
    }

    /// The process that runs now.
    pub(super) fn id(&self) -> Result<ProcessId> {
        let process = self.lock();
        let process = process.as_ref().with_context(|| format!("{} does not run; start it again", self.name))?;
        Ok(process.id().clone())
    }

    /// Take it out, to end it.
    pub(super) fn take(&self) -> Result<Guarded> {
        self.lock().take().with_context(|| format!("{} does not run; start it again", self.name))
    }

    /// Put in the next one.
    pub(super) fn put(&self, process: Guarded) {
        *self.lock() = Some(process);
    }

    /// Whether there is one.
    pub(super) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
