use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::OnceCell;

use super::guarded::Slot;
use super::ports::{STARTS, free_port, says_taken};
use super::programs::find_program;
use super::shared_directory::shared_directory;
use super::{Certificates, Guarded, Lifetime, ProcessId, Signal};

/// Time limit to start or stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Options for starting a Redis.
#[derive(Default)]
pub struct RedisOptions<'a> {
    /// Its port; a free one by default.
    pub port: Option<u16>,
    /// If set, connections must be encrypted, with this certificate.
    pub certificates: Option<&'a Certificates>,
    /// How long it runs.
    pub lifetime: Lifetime,
}

/// A separate Redis on 127.0.0.1. It stores nothing on disk: after a restart it is empty.
pub struct Redis {
    directory: PathBuf,
    port: u16,
    certificates: Option<Certificates>,
    lifetime: Lifetime,
    process: Slot,
}

impl Redis {
    /// Starts one in this directory, on a free port.
    ///
    /// # Errors
    /// Returns an error if Redis is not installed or does not start.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, RedisOptions::default()).await
    }

    /// Starts one on a given port.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start`], and if the port is taken.
    pub async fn start_at(directory: &Path, port: u16) -> Result<Self> {
        Self::start_with(directory, RedisOptions { port: Some(port), ..Default::default() }).await
    }

    /// Starts one with options.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start_at`].
    pub async fn start_with(directory: &Path, options: RedisOptions<'_>) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let RedisOptions { port: wanted, certificates, lifetime } = options;
        let mut starts = 0;
        loop {
            starts += 1;
            let port = wanted.map_or_else(free_port, Ok)?;
            match launch(directory, port, certificates, &lifetime).await {
                Ok(process) => {
                    let (directory, certificates) = (directory.to_owned(), certificates.cloned());
                    return Ok(Self { directory, port, certificates, lifetime, process: Slot::new(process) });
                }
                Err(error) if wanted.is_none() && starts < STARTS && says_taken(&error) => {}
                Err(error) => return Err(error.context(format!("Redis on port {port}"))),
            }
        }
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn id(&self) -> Result<ProcessId> {
        self.process.id()
    }

    /// Sends SIGKILL and waits until it has exited.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub async fn kill(&self) -> Result<()> {
        self.process.take()?.end(Signal::Kill, PATIENCE).await?;
        Ok(())
    }

    /// Stops it cleanly.
    ///
    /// # Errors
    /// Returns an error if it is not running or does not exit in time.
    pub async fn stop(&self) -> Result<()> {
        self.process.take()?.end(Signal::Terminate, PATIENCE).await?;
        Ok(())
    }

    /// Starts it again, empty, on the same port; stops it first if it is running.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        let process = launch(&self.directory, self.port, self.certificates.as_ref(), &self.lifetime).await?;
        self.process.put(process);
        Ok(())
    }

    /// Pauses it: connections stay open, nothing is answered.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub async fn pause(&self) -> Result<()> {
        self.id()?.stop_running().await
    }

    /// Resumes it.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn resume(&self) -> Result<()> {
        self.id()?.signal(Signal::Continue)
    }

    /// Leaves it running, even after this process has ended.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn leave(self) -> Result<ProcessId> {
        Ok(self.process.take()?.leave())
    }
}

/// Returns the Redis that all tests of one process share; each test uses its own names in it.
///
/// # Errors
/// Returns an error if it does not start.
pub async fn shared_redis() -> Result<&'static Redis> {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let start = || async {
        let directory = shared_directory()?;
        let lifetime = Lifetime::OursWithDirectory(directory.clone());
        Redis::start_with(&directory, RedisOptions { lifetime, ..Default::default() }).await
    };
    SHARED.get_or_try_init(start).await
}

async fn launch(
    directory: &Path,
    port: u16,
    certificates: Option<&Certificates>,
    lifetime: &Lifetime,
) -> Result<Guarded> {
    let program = find_program("redis-server", &[PathBuf::from("/usr/sbin")], "apt-get install redis-server")?;
    let log = directory.join("redis.log");
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]);
    command.arg(directory).current_dir(directory);
    let port_text = port.to_string();
    match certificates {
        None => command.args(["--port", &port_text]),
        Some(certificates) => {
            command.args(["--port", "0", "--tls-port", &port_text, "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(certificates.certificate());
            command.arg("--tls-key-file").arg(certificates.key());
            command.arg("--tls-ca-cert-file").arg(certificates.authority())
        }
    };
    let written = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let mut process = Guarded::start("Redis", command, &log, lifetime, Signal::Kill)?;
    // A test connection would not do: if the port clashes, it would reach another process's server.
    process.wait_until(PATIENCE, || says_ready(&log, written)).await?;
    Ok(process)
}

fn says_ready(log: &Path, from: u64) -> bool {
    let bytes = std::fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).contains("Ready to accept connections")
}
