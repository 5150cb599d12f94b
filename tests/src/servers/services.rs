//! `make services`: the servers that a person tries Belfry with. They run on after the command that started them.
//!
//! Each has a directory, with a file `port` and a file `process` beside its data, so that a later command finds it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Kafka, KafkaOptions, Postgres, PostgresOptions, ProcessId, Redis, RedisOptions, Signal};

const PATIENCE: Duration = Duration::from_secs(60);
/// The database that is there from the start.
const DATABASE: &str = "belfry";

/// The ports that are asked for; otherwise those of the last time, or free ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServicePorts {
    /// PostgreSQL's.
    pub postgres: Option<u16>,
    /// Kafka's.
    pub kafka: Option<u16>,
    /// Redis'.
    pub redis: Option<u16>,
}

/// Where the services are.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The database.
    pub store_url: String,
    /// The broker.
    pub kafka_brokers: String,
    /// Redis.
    pub redis_url: String,
}

impl Environment {
    /// As a shell takes it.
    pub fn exports(&self) -> String {
        let Self { store_url, kafka_brokers, redis_url } = self;
        format!(
            "export BELFRY__STORE__URL={store_url}\nexport BELFRY__KAFKA__BROKERS={kafka_brokers}\nexport \
             BELFRY__REDIS__URL={redis_url}\n"
        )
    }
}

/// Start what does not run yet, with its data in `directory`. `say` hears what happens.
///
/// # Errors
/// If one does not start; those before it go on.
pub async fn start(directory: &Path, ports: ServicePorts, say: impl Fn(&str)) -> Result<Environment> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let _lock = lock(&directory)?;

    let service = Service::new(&directory, "PostgreSQL", "postgres");
    let postgres = match service.running(ports.postgres)? {
        Some(port) => port,
        None => {
            let options = PostgresOptions { port: service.port(ports.postgres), ..Default::default() };
            let postgres = Postgres::start_with(&service.directory, options).await.with_context(|| service.remedy())?;
            let (port, exists) = (postgres.port(), service.directory.join("has-database"));
            if !exists.exists() {
                postgres.execute(&format!("CREATE DATABASE {DATABASE}")).await?;
                std::fs::write(exists, DATABASE)?;
            }
            service.note(port, &postgres.leave()?)?
        }
    };
    say(&format!("PostgreSQL runs on port {postgres}"));

    let service = Service::new(&directory, "Redis", "redis");
    let redis = match service.running(ports.redis)? {
        Some(port) => port,
        None => {
            let options = RedisOptions { port: service.port(ports.redis), ..Default::default() };
            let redis = Redis::start_with(&service.directory, options).await.with_context(|| service.remedy())?;
            service.note(redis.port(), &redis.leave()?)?
        }
    };
    say(&format!("Redis runs on port {redis}"));

    let service = Service::new(&directory, "Kafka", "kafka");
    let kafka = match service.running(ports.kafka)? {
        Some(port) => port,
        None => {
            let options = KafkaOptions { port: service.port(ports.kafka), ..Default::default() };
            let kafka = Kafka::start_with(&service.directory, options).await.with_context(|| service.remedy())?;
            service.note(kafka.port(), &kafka.leave()?)?
        }
    };
    say(&format!("Kafka runs on port {kafka}"));

    Ok(Environment {
        store_url: format!("postgres://postgres@127.0.0.1:{postgres}/{DATABASE}"),
        kafka_brokers: format!("127.0.0.1:{kafka}"),
        redis_url: format!("redis://127.0.0.1:{redis}"),
    })
}

/// Stop what runs of those whose data is in `directory`. The data stays.
///
/// # Errors
/// If one does not end.
pub async fn stop(directory: &Path, say: impl Fn(&str)) -> Result<()> {
    let Ok(directory) = directory.canonicalize() else {
        say(&format!("nothing to stop: there is no {}", directory.display()));
        return Ok(());
    };
    let _lock = lock(&directory)?;
    let services = [
        (Service::new(&directory, "Kafka", "kafka"), Signal::Terminate),
        (Service::new(&directory, "Redis", "redis"), Signal::Terminate),
        (Service::new(&directory, "PostgreSQL", "postgres"), Signal::Interrupt),
    ];
    for (service, signal) in services {
        let name = service.name;
        let Some(process) = ProcessId::load_alive(&service.process_file()) else {
            say(&format!("{name} does not run"));
            continue;
        };
        process.signal(signal)?;
        process.wait_until_gone(PATIENCE).await.with_context(|| format!("{name} did not end"))?;
        std::fs::remove_file(service.process_file())?;
        say(&format!("{name} is stopped; its data stays in {}", service.directory.display()));
    }
    Ok(())
}

struct Service {
    name: &'static str,
    directory: PathBuf,
}

impl Service {
    fn new(directory: &Path, name: &'static str, folder: &str) -> Self {
        Self { name, directory: directory.join(folder) }
    }

    fn process_file(&self) -> PathBuf {
        self.directory.join("process")
    }

    /// The port of the one that runs.
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

    /// The port that is wanted, or that of the last time.
    fn port(&self, wanted: Option<u16>) -> Option<u16> {
        wanted.or_else(|| std::fs::read_to_string(self.directory.join("port")).ok()?.trim().parse().ok())
    }

    fn note(&self, port: u16, process: &ProcessId) -> Result<u16> {
        std::fs::write(self.directory.join("port"), format!("{port}\n"))?;
        process.save(&self.process_file())?;
        Ok(port)
    }

    fn remedy(&self) -> String {
        let variable = self.name.to_uppercase().replace("POSTGRESQL", "POSTGRES");
        format!("{} did not start; if its port is taken, choose another with {variable}_PORT=", self.name)
    }
}

/// One command at a time.
fn lock(directory: &Path) -> Result<File> {
    let file = File::create(directory.join("lock"))?;
    if file.try_lock().is_err() {
        bail!("another command starts or stops the services in {}; wait for its end", directory.display());
    }
    Ok(file)
}
