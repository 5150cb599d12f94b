use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use belfry_store::{StoreSettings, migrate_submit};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

use super::load::Load;
use super::stage::Stage;
use crate::client::use_ring;
use crate::servers::{Database, ProcessId};
use crate::{BelfryProcess, Client};

/// Time limit for a condition.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The largest record that the topic `small` accepts.
pub(super) const SMALL_BYTES: usize = 8192;

/// Replicas of Belfry on one database, and the clients that post to them.
pub struct Cluster {
    /// The servers.
    pub stage: Arc<Stage>,
    /// The clients.
    pub load: Load,
    /// Belfry's database, past the proxy.
    pub database: Database,
    /// The topic of notifications.
    pub notifications: String,
    /// A topic that accepts small records only.
    pub small: String,
    /// A topic that the replicas read.
    pub input: String,
    /// The consumer group in which they read it.
    pub group: String,
    replicas: Vec<Replica>,
    settings: Vec<(&'static str, String)>,
    directory: TempDir,
}

/// One replica.
pub struct Replica {
    directory: PathBuf,
    process: Option<BelfryProcess>,
}

impl Replica {
    /// Returns its process id.
    ///
    /// # Errors
    /// Returns an error if it is down.
    pub fn id(&self) -> Result<ProcessId> {
        let process = self.process.as_ref().context("the replica is down")?;
        ProcessId::of(process.pid().context("the replica has ended")?)
    }

    /// Returns a client of its API.
    ///
    /// # Errors
    /// Returns an error if it is down.
    pub fn client(&self) -> Result<Client> {
        Ok(self.process.as_ref().context("the replica is down")?.client())
    }
}

impl Cluster {
    /// Starts `replicas` replicas. All names begin with `run`.
    ///
    /// # Errors
    /// Returns an error if one does not start.
    pub async fn start(stage: Arc<Stage>, run: &str, replicas: usize, seed: u64) -> Result<Self> {
        let database = stage.postgres.create_database().await?;
        let notifications = format!("{run}.notifications");
        stage.kafka.create_topic(&notifications, 4, &[]).await?;
        let input = format!("{run}.input");
        stage.kafka.create_topic(&input, 4, &[]).await?;
        let small = format!("{run}.small");
        stage.kafka.create_topic(&small, 4, &[("max.message.bytes", &SMALL_BYTES.to_string())]).await?;
        let service = stage.postgres.create_database().await?;
        migrate_submit(&StoreSettings::new(&service.url)).await?;
        let submitted = service.url_through(stage.postgres_proxy.port(), "postgres");
        let settings = vec![
            ("preset", "testing".to_owned()),
            ("store.url", database.url_through(stage.postgres_proxy.port(), "postgres")),
            // A new range every few seconds. In production a range lasts for days, and hundreds of ranges slow down
            // every statement.
            ("store.partition_entries", "5000".to_owned()),
            ("kafka.brokers", stage.kafka.bootstrap()),
            ("kafka.group", run.to_owned()),
            ("kafka.topics", format!("[\"{input}\"]")),
            ("kafka.start_at", "earliest".to_owned()),
            ("source.postgres", format!("[{{name=\"service\",url=\"{submitted}\"}}]")),
            ("redis.url", format!("redis://127.0.0.1:{}", stage.redis_proxy.port())),
            ("notification.topic", notifications.clone()),
            ("publish.topics", "[\"*\"]".to_owned()),
            ("sandbox.threads", "2".to_owned()),
            ("sink.kafka.enabled", "true".to_owned()),
        ];
        let mut cluster = Self {
            load: Load::new(run, seed, &stage.kafka.direct(), &input, &submitted)?,
            directory: TempDir::with_prefix("belfry-replicas-")?,
            database,
            notifications,
            small,
            input,
            group: run.to_owned(),
            replicas: Vec::new(),
            settings,
            stage,
        };
        for number in 0..replicas {
            let directory = cluster.directory.path().join(number.to_string());
            std::fs::create_dir_all(&directory)?;
            cluster.replicas.push(Replica { directory, process: None });
            cluster.start_replica(number, &[]).await?;
        }
        Ok(cluster)
    }

    /// Returns the number of replicas, up or down.
    pub fn size(&self) -> usize {
        self.replicas.len()
    }

    /// Returns a replica.
    pub fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number]
    }

    /// Starts a replica that is down, with additional settings.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn start_replica(&mut self, number: usize, more: &[(&'static str, String)]) -> Result<()> {
        let mut settings = self.settings.clone();
        settings.push(("sandbox.cache_directory", self.stage.cache().display().to_string()));
        settings.extend_from_slice(more);
        let replica = &mut self.replicas[number];
        let began = Instant::now();
        // Its servers may not be healthy yet; then it refuses to start, and its supervisor starts it again.
        replica.process = loop {
            match BelfryProcess::start_with(&replica.directory, &settings).await {
                Ok(process) => break Some(process),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                // A fail point may be intended to kill it early.
                Err(_) if more.iter().any(|(name, _)| *name == "FAILPOINTS") => break None,
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        self.tell_clients();
        Ok(())
    }

    /// Kills a replica with SIGKILL.
    ///
    /// # Errors
    /// Returns an error if it cannot be killed.
    pub async fn kill_replica(&mut self, number: usize) -> Result<()> {
        if let Some(process) = self.replicas[number].process.take() {
            process.kill().await?;
        }
        self.tell_clients();
        Ok(())
    }

    /// Stops a replica with SIGTERM.
    ///
    /// # Errors
    /// Returns an error if it does not exit cleanly.
    pub async fn stop_replica(&mut self, number: usize) -> Result<()> {
        if let Some(process) = self.replicas[number].process.take() {
            process.terminate().await?;
        }
        self.tell_clients();
        Ok(())
    }

    /// Starts all replicas that are down, including those that crashed.
    ///
    /// # Errors
    /// Returns an error if one does not start.
    pub async fn start_all(&mut self) -> Result<()> {
        for number in 0..self.replicas.len() {
            if !self.replicas[number].id().is_ok_and(|id| id.is_alive()) {
                self.replicas[number].process = None;
                self.start_replica(number, &[]).await?;
            }
        }
        Ok(())
    }

    /// Stops all replicas.
    ///
    /// # Errors
    /// Returns an error if one does not exit cleanly.
    pub async fn stop(mut self) -> Result<()> {
        for number in 0..self.replicas.len() {
            self.stop_replica(number).await?;
        }
        Ok(())
    }

    /// Waits until a replica holds the sink's lease. Returns its number.
    ///
    /// # Errors
    /// Returns an error if none does in time.
    pub async fn holder(&self) -> Result<usize> {
        let began = Instant::now();
        use_ring();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(1)).build()?;
        while began.elapsed() < PATIENCE {
            for (number, replica) in self.replicas.iter().enumerate() {
                let Some(process) = &replica.process else { continue };
                let Ok(answer) = http.get(format!("{}/metrics", process.ops_url())).send().await else { continue };
                let metrics = answer.text().await.unwrap_or_default();
                if metrics.lines().any(|line| line == "belfry_lease_held{sink=\"kafka\"} 1") {
                    return Ok(number);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("no replica held the lease within {PATIENCE:?}")
    }

    /// Waits until a replica has exited without being stopped.
    ///
    /// # Errors
    /// Returns an error if it does not exit in time.
    pub async fn wait_until_dead(&mut self, number: usize, patience: Duration) -> Result<()> {
        if let Ok(id) = self.replicas[number].id() {
            id.wait_until_gone(patience).await?;
        }
        self.replicas[number].process = None;
        self.tell_clients();
        Ok(())
    }

    /// Waits until one of these replicas has exited without being stopped.
    ///
    /// # Errors
    /// Returns an error if none exits in time.
    pub async fn wait_until_any_dead(&mut self, numbers: &[usize], patience: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < patience {
            for number in numbers {
                let replica = &mut self.replicas[*number];
                if replica.process.is_some() && !replica.id().is_ok_and(|id| id.is_alive()) {
                    replica.process = None;
                    self.tell_clients();
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("none of the replicas {numbers:?} exited within {patience:?}")
    }

    /// Expires the lease, as if enough time had passed since its holder died.
    ///
    /// # Errors
    /// Returns an error if the database does not respond.
    pub async fn age_lease(&self) -> Result<()> {
        self.execute("UPDATE belfry.relay SET lease_until = '-infinity'").await
    }

    /// Sets the size of the largest record that the topic `small` accepts.
    ///
    /// # Errors
    /// Returns an error if the broker refuses.
    pub async fn set_small(&self, bytes: usize) -> Result<()> {
        self.stage.kafka.set_topic(&self.small, &[("max.message.bytes", &bytes.to_string())]).await
    }

    /// Runs a statement in Belfry's database, past the proxy.
    ///
    /// # Errors
    /// Returns an error if the server refuses.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Connects to Belfry's database, past the proxy.
    ///
    /// # Errors
    /// Returns an error if the server refuses.
    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.database.url).await?)
    }

    /// Returns a client of each replica that is up.
    pub(super) fn clients(&self) -> impl Iterator<Item = Client> {
        self.replicas.iter().filter_map(|replica| Some(replica.process.as_ref()?.client()))
    }

    /// Returns the logs of the replicas that are up.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for (number, replica) in self.replicas.iter().enumerate() {
            let log = replica.process.as_ref().and_then(|process| process.log().ok()).unwrap_or_default();
            logs.extend(log.lines().map(|line| format!("{number}: {line}\n")));
        }
        logs
    }

    fn tell_clients(&self) {
        let address = |replica: &Replica| replica.process.as_ref().map(|process| process.client().url().to_owned());
        self.load.tell(self.replicas.iter().map(address).collect());
    }
}
