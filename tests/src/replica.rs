use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::Database;
use crate::{BelfryProcess, Client};

/// What a test waits for at most, unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

/// `belfry serve` on a database that it shares with others.
pub struct Replica {
    process: BelfryProcess,
    directory: TempDir,
}

impl Replica {
    /// Start one, with Redis if there is one, and more settings such as `("sink.stdout.enabled", "true".into())`.
    ///
    /// # Errors
    /// If it does not become ready; with its log.
    pub async fn start(database: &Database, redis: Option<&str>, settings: &[(&str, String)]) -> Result<Self> {
        let directory = TempDir::new()?;
        let mut all = vec![
            ("preset", "testing".to_owned()),
            ("store.url", database.url.clone()),
            ("sandbox.cache_directory", directory.path().join("compiled").display().to_string()),
        ];
        all.extend(redis.map(|url| ("redis.url", url.to_owned())));
        all.extend_from_slice(settings);
        Ok(Self { process: BelfryProcess::start_with(directory.path(), &all).await?, directory })
    }

    /// A client of its API.
    pub fn client(&self) -> Client {
        self.process.client()
    }

    /// Its process.
    pub fn process(&self) -> &BelfryProcess {
        &self.process
    }

    /// What it says of its parts.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn readiness(&self) -> Result<Value> {
        self.process.readiness().await
    }

    /// Whether it holds the lease of a sink.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn serves(&self, sink: &str) -> Result<bool> {
        let readiness = self.readiness().await?;
        let sinks = readiness["sinks"].as_array().context("sinks")?;
        Ok(sinks.iter().any(|state| state["sink"] == sink && state["served_by"] == "this-replica"))
    }

    /// Wait until it holds the lease of a sink. Gives how long that took.
    ///
    /// # Errors
    /// If it does not, with its log.
    pub async fn wait_until_it_serves(&self, sink: &str) -> Result<Duration> {
        let began = Instant::now();
        while !self.serves(sink).await? {
            if began.elapsed() > PATIENCE {
                bail!("{sink} is not served here; the log:\n{}", self.process.log()?);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(began.elapsed())
    }

    /// Wait until Redis is connected, or is not.
    ///
    /// # Errors
    /// If that does not happen, with its log.
    pub async fn wait_for_redis(&self, state: &str) -> Result<Duration> {
        let began = Instant::now();
        while self.readiness().await?["redis"] != state {
            if began.elapsed() > PATIENCE {
                bail!("redis is not {state}; the log:\n{}", self.process.log()?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(began.elapsed())
    }

    /// What its sink `stdout` wrote.
    ///
    /// # Errors
    /// If a line that is finished is not JSON.
    pub fn output(&self) -> Result<Vec<Value>> {
        output_in(&self.directory)
    }

    /// A metric's value, the sum over its labels; 0 if it was never counted.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.process.metrics().await?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            value.parse::<f64>().ok()
        });
        Ok(values.sum())
    }

    /// SIGTERM. Gives what its sink `stdout` wrote.
    ///
    /// # Errors
    /// If it does not end in good order.
    pub async fn terminate(self) -> Result<Vec<Value>> {
        let Self { process, directory } = self;
        process.terminate().await?;
        output_in(&directory)
    }

    /// SIGKILL. Gives what its sink `stdout` wrote.
    ///
    /// # Errors
    /// If it had ended before.
    pub async fn kill(self) -> Result<Vec<Value>> {
        let Self { process, directory } = self;
        process.kill().await?;
        output_in(&directory)
    }
}

/// The finished lines: a kill may cut off the last.
fn output_in(directory: &TempDir) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(directory.path().join("stdout"))?;
    let finished = text.rfind('\n').map_or("", |end| &text[..end]);
    finished.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
