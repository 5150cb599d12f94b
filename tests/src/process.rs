use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::Client;

/// How long a process may take to become ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The `belfry` command, as it was built along with the tests.
///
/// # Errors
/// If it was not: `cargo test --workspace` builds it.
pub fn belfry_binary() -> Result<PathBuf> {
    // Tests lie in target/PROFILE/deps, programs beside the command.
    let this = std::env::current_exe()?;
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join("belfry"));
    beside
        .into_iter()
        .find(|binary| binary.is_file())
        .context("the belfry command is not built; run `cargo build --workspace` or `cargo test --workspace`")
}

/// `belfry serve` in a process of its own.
pub struct BelfryProcess {
    child: Child,
    http: u16,
    ops: u16,
    ready_after: Duration,
}

impl BelfryProcess {
    /// Start it on a database in `directory` and wait until it is ready.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::spawn(directory, &[], false).await
    }

    /// The same under another command, such as `strace`.
    pub async fn start_under(directory: &Path, wrapper: &[String]) -> Result<Self> {
        Self::spawn(directory, wrapper, false).await
    }

    /// The same with the sink `stdout`, which writes to the file `stdout` in `directory`.
    pub async fn start_with_stdout(directory: &Path) -> Result<Self> {
        Self::spawn(directory, &[], true).await
    }

    async fn spawn(directory: &Path, wrapper: &[String], sink_stdout: bool) -> Result<Self> {
        let (http, ops) = (free_port()?, free_port()?);
        let belfry = belfry_binary()?;
        let mut command = match wrapper {
            [] => Command::new(belfry),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(belfry);
                command
            }
        };
        let child = command
            .arg("serve")
            .env("BELFRY__HTTP__LISTEN", format!("127.0.0.1:{http}"))
            .env("BELFRY__OPS__LISTEN", format!("127.0.0.1:{ops}"))
            .env("BELFRY__STORE__URL", format!("sqlite:{}", directory.join("belfry.db").display()))
            .env("BELFRY__SINK__STDOUT__ENABLED", sink_stdout.to_string())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(directory.join("stdout"))?)
            .stderr(std::fs::File::options().create(true).append(true).open(directory.join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {:?}; if it is missing, install it: apt-get install strace",
                    command.as_std().get_program()
                )
            })?;
        let mut process = Self { child, http, ops, ready_after: Duration::ZERO };
        process.ready_after = process.wait_until_ready(directory).await?;
        Ok(process)
    }

    async fn wait_until_ready(&mut self, directory: &Path) -> Result<Duration> {
        let url = format!("http://127.0.0.1:{}/readyz", self.ops);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                bail!("belfry ended with {status}; its log:\n{log}");
            }
            if reqwest::get(&url).await.is_ok_and(|response| response.status().is_success()) {
                return Ok(began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("belfry was not ready within {PATIENCE:?}")
    }

    /// A client of its API.
    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.http))
    }

    /// The host and port of its API.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// How long it took from its start to being ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Where operators look.
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGTERM, and wait until it has ended in good order.
    pub async fn terminate(mut self) -> Result<()> {
        let pid = self.pid().context("it ended before")?;
        Command::new("kill").arg(pid.to_string()).status().await?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it did not end")??;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// SIGKILL: it gets no chance to put anything in order.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A port that nobody uses just now.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
