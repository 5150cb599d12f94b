//! `make services`: servers for trying out Belfry. They keep running after the command that started them.
//!
//! Each has a directory, with a file `port` and a file `process` next to its data, so that a later command finds it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Kafka, KafkaOptions, Postgres, PostgresOptions, ProcessId, Redis, RedisOptions, Signal};

const PATIENCE: Duration = Duration::from_secs(60);
/// The database that is created.
const DATABASE: &str = "belfry";

/// The requested ports; by default those of the previous start, or free ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServicePorts {
    /// PostgreSQL's port.
    pub postgres: Option<u16>,
    /// Kafka's port.
    pub kafka: Option<u16>,
    /// Redis' port.
    pub redis: Option<u16>,
}

/// The addresses of the services.
#[derive(Clone, Debug)]
pub struct Environment {
    /// URL of the database.
    pub store_url: String,
    /// Address of the broker.
    pub kafka_brokers: String,
    /// URL of Redis.
    pub redis_url: String,
}

impl Environment {
    /// Returns the variables as commands for a shell.
    pub fn exports(&self) -> String {
        let Self { store_url, kafka_brokers, redis_url } = self;
        format!(
            "export BELFRY__STORE__URL={store_url}\nexport BELFRY__KAFKA__BROKERS={kafka_brokers}\nexport \
             BELFRY__REDIS__URL={redis_url}\n"
        )
    }
}

/// Starts the services that are not running, with their data in `directory`. Reports progress to `say`.
///
/// # Errors
/// Returns an error if one does not start; those before it keep running.
pub async fn start(directory: &Path, ports: ServicePorts, say: impl Fn(&str)) -> Result<Environment> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let _lock = lock(&directory)?;
    let [kafka, redis, postgres] = services(&directory);

    let postgres_port = match postgres.running(ports.postgres)? {
        Some(port) => port,
        None => start_postgres(&postgres, ports.postgres).await.with_context(|| postgres.remedy())?,
    };
    say(&format!("PostgreSQL runs on port {postgres_port}"));
    let redis_port = match redis.running(ports.redis)? {
        Some(port) => port,
        None => start_redis(&redis, ports.redis).await.with_context(|| redis.remedy())?,
    };
    say(&format!("Redis runs on port {redis_port}"));
    let kafka_port = match kafka.running(ports.kafka)? {
        Some(port) => port,
        None => start_kafka(&kafka, ports.kafka).await.with_context(|| kafka.remedy())?,
    };
    say(&format!("Kafka runs on port {kafka_port}"));

    Ok(Environment {
        store_url: format!("postgres://postgres@127.0.0.1:{postgres_port}/{DATABASE}"),
        kafka_brokers: format!("127.0.0.1:{kafka_port}"),
        redis_url: format!("redis://127.0.0.1:{redis_port}"),
    })
}

async fn start_postgres(service: &Service, wanted: Option<u16>) -> Result<u16> {
    let above = service.directory.parent().context("a service's directory is in another")?;
    if !service.directory.exists() && !Postgres::reaches(above)? {
        let elsewhere = tempfile::Builder::new().prefix("belfry-postgres-").tempdir_in("/var/tmp")?.keep();
        std::os::unix::fs::symlink(elsewhere, &service.directory)?;
    }
    let options = PostgresOptions { port: service.port(wanted), ..Default::default() };
    let postgres = Postgres::start_with(&service.directory, options).await?;
    let has_database = service.directory.join("has-database");
    if !has_database.exists() {
        postgres.execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        std::fs::write(has_database, DATABASE)?;
    }
    service.note(postgres.port(), &postgres.leave()?)
}

async fn start_redis(service: &Service, wanted: Option<u16>) -> Result<u16> {
    let options = RedisOptions { port: service.port(wanted), ..Default::default() };
    let redis = Redis::start_with(&service.directory, options).await?;
    service.note(redis.port(), &redis.leave()?)
}

async fn start_kafka(service: &Service, wanted: Option<u16>) -> Result<u16> {
    let options = KafkaOptions { port: service.port(wanted), ..Default::default() };
    let kafka = Kafka::start_with(&service.directory, options).await?;
    service.note(kafka.port(), &kafka.leave()?)
}

/// Stops the running services whose data is in `directory`. The data stays.
///
/// # Errors
/// Returns an error if one does not exit in time.
pub async fn stop(directory: &Path, say: impl Fn(&str)) -> Result<()> {
    let Ok(directory) = directory.canonicalize() else {
        say(&format!("nothing to stop: there is no {}", directory.display()));
        return Ok(());
    };
    let _lock = lock(&directory)?;
    for service in services(&directory) {
        let name = service.name;
        let Some(process) = ProcessId::load_alive(&service.process_file()) else {
            say(&format!("{name} is not running"));
            continue;
        };
        process.signal(service.ending)?;
        process.wait_until_gone(PATIENCE).await.with_context(|| format!("{name} did not exit"))?;
        std::fs::remove_file(service.process_file())?;
        say(&format!("{name} is stopped; its data stays in {}", service.directory.display()));
    }
    Ok(())
}

struct Service {
    name: &'static str,
    directory: PathBuf,
    /// The signal that ends it cleanly.
    ending: Signal,
    /// The variable that sets its port.
    variable: &'static str,
}

/// Returns the services in the order in which they are stopped.
fn services(directory: &Path) -> [Service; 3] {
    let service =
        |name, folder, ending, variable| Service { name, directory: directory.join(folder), ending, variable };
    [
        service("Kafka", "kafka", Signal::Terminate, "KAFKA_PORT"),
        service("Redis", "redis", Signal::Terminate, "REDIS_PORT"),
        service("PostgreSQL", "postgres", Signal::Interrupt, "POSTGRES_PORT"),
    ]
}

impl Service {
    fn process_file(&self) -> PathBuf {
        self.directory.join("process")
    }

    /// Returns the port of the running service; `None` if it is not running.
    fn running(&self, wanted: Option<u16>) -> Result<Option<u16>> {
        if ProcessId::load_alive(&self.process_file()).is_none() {
            return Ok(None);
        }
        let port = self.port(None).with_context(|| format!("{} has no port", self.directory.display()))?;
        if let Some(wanted) = wanted {
            let name = self.name;
            ensure!(wanted == port, "{name} runs on port {port}, not {wanted}; stop it first: make services-stop");
        }
        Ok(Some(port))
    }

    /// Returns the requested port, or that of the previous start.
    fn port(&self, wanted: Option<u16>) -> Option<u16> {
        wanted.or_else(|| std::fs::read_to_string(self.directory.join("port")).ok()?.trim().parse().ok())
    }

    fn note(&self, port: u16, process: &ProcessId) -> Result<u16> {
        std::fs::write(self.directory.join("port"), format!("{port}\n"))?;
        process.save(&self.process_file())?;
        Ok(port)
    }

    fn remedy(&self) -> String {
        format!("{} did not start; if its port is taken, choose another with {}=", self.name, self.variable)
    }
}

/// Ensures that one command runs at a time.
fn lock(directory: &Path) -> Result<File> {
    let file = File::create(directory.join("lock"))?;
    if file.try_lock().is_err() {
        bail!("another command starts or stops the services in {}; wait until it has ended", directory.display());
    }
    Ok(file)
}
