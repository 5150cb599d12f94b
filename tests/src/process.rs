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
    let tests = std::env::current_exe()?;
    let profile = tests.ancestors().nth(2).context("tests lie in target/PROFILE/deps")?;
    let binary = profile.join("belfry");
    if !binary.is_file() {
        bail!("{} is missing; run `cargo build --workspace` or `cargo test --workspace`", binary.display());
    }
    Ok(binary)
}

/// `belfry serve` in a process of its own.
pub struct BelfryProcess {
    child: Child,
    http: u16,
    ops: u16,
}

impl BelfryProcess {
    /// Start it on a database in `directory` and wait until it is ready.
    pub async fn start(directory: &Path) -> Result<Self> {
        let (http, ops) = (free_port()?, free_port()?);
        let child = Command::new(belfry_binary()?)
            .arg("serve")
            .env("BELFRY__HTTP__LISTEN", format!("127.0.0.1:{http}"))
            .env("BELFRY__OPS__LISTEN", format!("127.0.0.1:{ops}"))
            .env("BELFRY__STORE__URL", format!("sqlite:{}", directory.join("belfry.db").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(directory.join("log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let mut process = Self { child, http, ops };
        process.wait_until_ready(directory).await?;
        Ok(process)
    }

    async fn wait_until_ready(&mut self, directory: &Path) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/readyz", self.ops);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                bail!("belfry ended with {status}; its log:\n{log}");
            }
            if reqwest::get(&url).await.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("belfry was not ready within {PATIENCE:?}")
    }

    /// A client of its API.
    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.http))
    }

    /// Where operators look.
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
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
