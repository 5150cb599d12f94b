use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use crate::Client;
use crate::client::{get, use_ring};
use crate::servers::Signal;
use crate::servers::watchdog::Watchdog;

/// Time limit for a process to become ready or to exit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the path of the `belfry` command that was built along with the tests.
///
/// # Errors
/// Returns an error if it was not built: `cargo test --workspace` builds it.
pub fn belfry_binary() -> Result<PathBuf> {
    // Tests are in target/PROFILE/deps, programs and the command in target/PROFILE.
    let this = std::env::current_exe()?;
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join("belfry"));
    beside
        .into_iter()
        .find(|binary| binary.is_file())
        .context("the belfry command is not built; run `cargo build --workspace` or `cargo test --workspace`")
}

/// `belfry serve` in a separate process.
pub struct BelfryProcess {
    child: Child,
    /// Ends the process if the test is killed.
    _watchdog: Watchdog,
    http: String,
    ops: String,
    log: NamedTempFile,
    ready_after: Duration,
}

impl BelfryProcess {
    /// Starts it on a database in `directory` and waits until it is ready.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, &[]).await
    }

    /// Starts it with settings, such as `("kafka.brokers", "127.0.0.1:9092".into())`. A name in capitals is an
    /// environment variable instead. The file `belfry.toml` in the directory is used if it exists.
    ///
    /// # Errors
    /// Returns an error, with its log, if it does not become ready.
    pub async fn start_with(directory: &Path, settings: &[(&str, String)]) -> Result<Self> {
        Self::spawn(directory, &[], settings).await
    }

    /// Starts it under another command, such as `strace`.
    pub async fn start_under(directory: &Path, wrapper: &[String]) -> Result<Self> {
        Self::spawn(directory, wrapper, &[]).await
    }

    /// Starts it with the sink `stdout`, which writes to the file `stdout` in `directory`.
    pub async fn start_with_stdout(directory: &Path) -> Result<Self> {
        Self::start_with(directory, &[("sink.stdout.enabled", "true".to_owned())]).await
    }

    async fn spawn(directory: &Path, wrapper: &[String], settings: &[(&str, String)]) -> Result<Self> {
        use_ring();
        let belfry = belfry_binary()?;
        let mut command = match wrapper {
            [] => Command::new(belfry),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(belfry);
                command
            }
        };
        command.arg("serve");
        for (name, value) in settings {
            if name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') {
                command.env(name, value);
            } else {
                command.arg("--set").arg(format!("{name}={value}"));
            }
        }
        let file = directory.join("belfry.toml");
        if file.is_file() {
            command.arg("--config").arg(file);
        }
        let log = NamedTempFile::new_in(directory)?;
        let child = command
            // It chooses free ports itself: a port that was free a moment ago may belong to a client by now.
            .env("BELFRY__HTTP__LISTEN", "127.0.0.1:0")
            .env("BELFRY__OPS__LISTEN", "127.0.0.1:0")
            .env("BELFRY__STORE__URL", format!("sqlite:{}", directory.join("belfry.db").display()))
            .env("BELFRY__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(directory.join("stdout"))?)
            .stderr(log.reopen()?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                let program = command.as_std().get_program();
                format!("cannot start {program:?}; if it is missing, install it: apt-get install strace")
            })?;
        let pid = child.id().context("it exited at once")?;
        let mut process = Self {
            child,
            _watchdog: Watchdog::of(pid, Signal::Kill, Path::new(""))?,
            http: String::new(),
            ops: String::new(),
            log,
            ready_after: Duration::ZERO,
        };
        process.wait_until_ready().await?;
        Ok(process)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let log = std::fs::read_to_string(self.log.path())?;
            if let Some(status) = self.child.try_wait()? {
                bail!("belfry exited with {status}; its log:\n{log}");
            }
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = lines.into_iter().find(|line| line["message"] == "ready") {
                self.http = ready["http"].as_str().unwrap_or_default().to_owned();
                self.ops = ready["ops"].as_str().unwrap_or_default().to_owned();
                self.ready_after = began.elapsed();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("belfry was not ready within {PATIENCE:?}")
    }

    /// Returns a client of its API.
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.http))
    }

    /// Returns the host and port of its API.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// Returns the time from its start until it was ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Returns the URL of its operations endpoints.
    pub fn ops_url(&self) -> String {
        format!("http://{}", self.ops)
    }

    /// Returns its metrics in Prometheus' text format.
    ///
    /// # Errors
    /// Returns an error if it does not respond.
    pub async fn metrics(&self) -> Result<String> {
        Ok(get(format!("{}/metrics", self.ops_url())).await?.text().await?)
    }

    /// Returns its detailed readiness report.
    ///
    /// # Errors
    /// Returns an error if it does not respond.
    pub async fn readiness(&self) -> Result<Value> {
        Ok(get(format!("{}/readyz?verbose&format=json", self.ops_url())).await?.json().await?)
    }

    /// Returns its log so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.log.path())?)
    }

    /// Returns its process id; `None` once it has exited.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns its current resident memory, in bytes, as the kernel counts it.
    ///
    /// # Errors
    /// Returns an error if it has exited.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Returns its peak resident memory, in bytes.
    ///
    /// # Errors
    /// Returns an error if it has exited.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().context("it has already exited")?))?;
        let found = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
        found.map(|kilobytes: u64| kilobytes << 10).with_context(|| field.to_owned())
    }

    /// Sends SIGTERM and waits for a clean exit.
    pub async fn terminate(mut self) -> Result<()> {
        let pid = self.pid().context("it has already exited")?;
        // Debian packages the program `kill` separately; every shell has the command built in.
        Command::new("sh").args(["-c", &format!("kill {pid}")]).status().await?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it did not exit")??;
        if !status.success() {
            bail!("it exited with {status}");
        }
        Ok(())
    }

    /// Sends SIGKILL, which leaves it no chance to clean up.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
