//! The service of the demo: this program, serving on free ports from a temporary directory.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::failed;
use crate::client::Client;

/// The first start compiles a rule.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A running service.
pub(super) struct Server {
    child: Child,
    directory: TempDir,
    http: String,
    ops: String,
}

impl Server {
    /// Starts the service. Waits until it logs that it is ready and its addresses.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let directory =
            TempDir::new().context("cannot create a temporary directory; set TMPDIR to a writable directory")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let log = File::create(directory.path().join("log"))?;
        let child = Command::new(program)
            .arg("serve")
            .args(["--set", "http.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0", "--set", "log.format=json"])
            .arg("--set")
            .arg(format!("store.url=sqlite:{}", directory.path().join("belfry.db").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the service")?;
        let mut server = Self { child, directory, http: String::new(), ops: String::new() };
        timeout(START, server.wait_until_ready()).await.context("the service was not ready in time")??;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(failed(format!("the service ended with {status}:\n{}", self.log())));
            }
            let lines = self.log_lines();
            if let Some(ready) = lines.iter().find(|line| line["message"] == "ready") {
                self.http = ready["http"].as_str().unwrap_or_default().to_owned();
                self.ops = ready["ops"].as_str().unwrap_or_default().to_owned();
                return Ok(());
            }
            sleep(POLL).await;
        }
    }

    /// Creates a client of its API.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&format!("http://{}", self.http), None)?)
    }

    /// Returns the address of its API.
    pub(super) fn http(&self) -> &str {
        &self.http
    }

    /// Returns its metrics.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        Ok(Client::new(&format!("http://{}", self.ops), None)?.metrics().await?)
    }

    /// Returns the warnings and errors in its log.
    pub(super) fn troubles(&self) -> Vec<String> {
        let trouble = |line: &Value| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap_or_default());
        self.log_lines().iter().filter(|line| trouble(line)).map(Value::to_string).collect()
    }

    /// Stops the service with SIGTERM. Returns an error unless it exits cleanly.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| failed("the service ended unexpectedly"))?;
        kill_process(pid, Signal::TERM).context("cannot send a signal")?;
        let status = timeout(STOP, self.child.wait()).await.context("the service did not stop in time")??;
        if status.success() {
            return Ok(());
        }
        Err(failed(format!("the service stopped with {status}:\n{}", self.log())))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
