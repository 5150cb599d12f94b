use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::Database;
use crate::{BelfryProcess, Client};

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// `belfry serve` on a database that it shares with other replicas.
pub struct Replica {
    process: BelfryProcess,
    directory: TempDir,
}

impl Replica {
    /// Starts a replica, with Redis if a URL is given, and with additional settings such as
    /// `("sink.stdout.enabled", "true".into())`.
    ///
    /// # Errors
    /// Returns an error, with its log, if it does not become ready.
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

    /// Returns a client of its API.
    pub fn client(&self) -> Client {
        self.process.client()
    }

    /// Returns its process.
    pub fn process(&self) -> &BelfryProcess {
        &self.process
    }

    /// Returns its detailed readiness report.
    ///
    /// # Errors
    /// Returns an error if it does not respond.
    pub async fn readiness(&self) -> Result<Value> {
        self.process.readiness().await
    }

    /// Returns whether it holds the lease of a sink.
    ///
    /// # Errors
    /// Returns an error if it does not respond.
    pub async fn serves(&self, sink: &str) -> Result<bool> {
        let readiness = self.readiness().await?;
        let sinks = readiness["sinks"].as_array().context("sinks")?;
        Ok(sinks.iter().any(|state| state["sink"] == sink && state["served_by"] == "this-replica"))
    }

    /// Waits until it holds the lease of a sink. Returns how long that took.
    ///
    /// # Errors
    /// Returns an error, with its log, if it does not acquire the lease in time.
    pub async fn wait_until_it_serves(&self, sink: &str) -> Result<Duration> {
        let began = Instant::now();
        while !self.serves(sink).await? {
            if began.elapsed() > PATIENCE {
                bail!("{sink} is not served by this replica; its log:\n{}", self.process.log()?);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(began.elapsed())
    }

    /// Waits until its readiness report shows this state of Redis. Returns how long that took.
    ///
    /// # Errors
    /// Returns an error, with its log, if that does not happen in time.
    pub async fn wait_for_redis(&self, state: &str) -> Result<Duration> {
        let began = Instant::now();
        while self.readiness().await?["redis"] != state {
            if began.elapsed() > PATIENCE {
                bail!("redis is not {state}; its log:\n{}", self.process.log()?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(began.elapsed())
    }

    /// Returns the output of its sink `stdout`.
    ///
    /// # Errors
    /// Returns an error if a complete line is not JSON.
    pub fn output(&self) -> Result<Vec<Value>> {
        output_in(&self.directory)
    }

    /// Returns a metric's value, summed over its labels; 0 if the metric is absent.
    ///
    /// # Errors
    /// Returns an error if it does not respond.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.process.metrics().await?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            value.parse::<f64>().ok()
        });
        Ok(values.sum())
    }

    /// Sends SIGTERM. Returns the output of its sink `stdout`.
    ///
    /// # Errors
    /// Returns an error if it does not exit cleanly.
    pub async fn terminate(self) -> Result<Vec<Value>> {
        let Self { process, directory } = self;
        process.terminate().await?;
        output_in(&directory)
    }

    /// Sends SIGKILL. Returns the output of its sink `stdout`.
    ///
    /// # Errors
    /// Returns an error if it had already exited.
    pub async fn kill(self) -> Result<Vec<Value>> {
        let Self { process, directory } = self;
        process.kill().await?;
        output_in(&directory)
    }
}

/// Returns the complete lines: a kill may truncate the last one.
fn output_in(directory: &TempDir) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(directory.path().join("stdout"))?;
    let finished = text.rfind('\n').map_or("", |end| &text[..end]);
    finished.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
