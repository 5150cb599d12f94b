mod clients;
mod distribution;
mod records;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use rdkafka::producer::FutureProducer;
use tokio::sync::OnceCell;
use uuid::Uuid;

use distribution::Distribution;
pub use records::{KafkaRecord, TopicReader};
use settings::{Ports, server_properties};

use super::guarded::Slot;
use super::ports::{STARTS, free_port, says_taken};
use super::shared_directory::shared_directory;
use super::{Certificates, Guarded, Lifetime, ProcessId, Signal};

/// Time limit to start or stop.
const PATIENCE: Duration = Duration::from_secs(90);
/// The options of Kafka's own scripts, with a quarter of the memory.
const JAVA_OPTIONS: &[&str] = &["-Xmx256m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

/// User name for a secured Kafka.
pub const SCRAM_USER: &str = "belfry";
/// Password of that user.
pub const SCRAM_PASSWORD: &str = "a tower and a bell";

/// Options for starting a Kafka.
#[derive(Default)]
pub struct KafkaOptions<'a> {
    /// The port for clients; a free one by default.
    pub port: Option<u16>,
    /// The port that is advertised to clients, if it is a proxy's.
    pub advertised: Option<u16>,
    /// Additional settings for `server.properties`; they override the common ones.
    pub settings: &'a [(&'a str, &'a str)],
    /// If set, clients need TLS, with this certificate, and a password ([`SCRAM_USER`], SCRAM-SHA-512).
    pub certificates: Option<&'a Certificates>,
    /// How long it runs.
    pub lifetime: Lifetime,
}

/// A separate Kafka on 127.0.0.1: one process, broker and controller in one, without topics.
///
/// It has two listeners: one for clients, with the requested security; and a direct one, in plain text and past any
/// proxy, for operations and observations of the tests.
pub struct Kafka {
    distribution: Distribution,
    directory: PathBuf,
    ports: Ports,
    lifetime: Lifetime,
    process: Slot,
    producer: OnceLock<FutureProducer>,
}

impl Kafka {
    /// Starts one in this directory, on free ports.
    ///
    /// # Errors
    /// Returns an error if Java is missing, Kafka cannot be fetched, or does not start.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, KafkaOptions::default()).await
    }

    /// Starts one on a given port.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start`], and if the port is taken.
    pub async fn start_at(directory: &Path, port: u16) -> Result<Self> {
        Self::start_with(directory, KafkaOptions { port: Some(port), ..Default::default() }).await
    }

    /// Starts one behind a proxy that listens on `advertised` and forwards to `port`.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start_at`].
    pub async fn start_behind(directory: &Path, port: u16, advertised: u16) -> Result<Self> {
        let (port, advertised) = (Some(port), Some(advertised));
        Self::start_with(directory, KafkaOptions { port, advertised, ..Default::default() }).await
    }

    /// Starts one with TLS and a password: SASL_SSL, SCRAM-SHA-512, [`SCRAM_USER`], [`SCRAM_PASSWORD`].
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start`].
    pub async fn start_secured(directory: &Path, certificates: &Certificates) -> Result<Self> {
        Self::start_with(directory, KafkaOptions { certificates: Some(certificates), ..Default::default() }).await
    }

    /// Starts one with options. Existing data is used.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start_at`].
    pub async fn start_with(directory: &Path, options: KafkaOptions<'_>) -> Result<Self> {
        let distribution = Distribution::find().await?;
        std::fs::create_dir_all(directory)?;
        let mut starts = 0;
        loop {
            starts += 1;
            let ports = Ports {
                clients: options.port.map_or_else(free_port, Ok)?,
                advertised: options.advertised,
                direct: free_port()?,
                controller: free_port()?,
            };
            let properties = server_properties(directory, &ports, options.certificates, options.settings);
            std::fs::write(directory.join("server.properties"), properties)?;
            if !directory.join("data/meta.properties").exists() {
                format(&distribution, directory, options.certificates.is_some()).await?;
            }
            match launch(&distribution, directory, &ports, &options.lifetime).await {
                Ok(process) => {
                    let (directory, process) = (directory.to_owned(), Slot::new(process));
                    let (lifetime, producer) = (options.lifetime, OnceLock::new());
                    let kafka = Self { distribution, directory, ports, lifetime, process, producer };
                    kafka.wait_for_broker(PATIENCE).await?;
                    return Ok(kafka);
                }
                // The other two ports are chosen here, even if the port for clients is given.
                Err(error) if starts < STARTS && says_taken(&error) => {}
                Err(error) => return Err(error.context(format!("Kafka on port {}", ports.clients))),
            }
        }
    }

    /// Returns the bootstrap address for clients: that of the proxy, if there is one.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.advertised.unwrap_or(self.ports.clients))
    }

    /// Returns the address for tests, in plain text and past any proxy.
    pub fn direct(&self) -> String {
        format!("127.0.0.1:{}", self.ports.direct)
    }

    /// Returns the port of the listener for clients.
    pub fn port(&self) -> u16 {
        self.ports.clients
    }

    /// Returns the path of its log.
    pub fn log(&self) -> PathBuf {
        log_file(&self.directory)
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

    /// Starts it again with the same data on the same ports; stops it first if it is running.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        let process = launch(&self.distribution, &self.directory, &self.ports, &self.lifetime).await?;
        self.process.put(process);
        self.wait_for_broker(PATIENCE).await
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

/// Returns the Kafka that all tests of one process share; each test uses its own topics and groups.
///
/// # Errors
/// Returns an error if it does not start.
pub async fn shared_kafka() -> Result<&'static Kafka> {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    let start = || async {
        let directory = shared_directory()?;
        let lifetime = Lifetime::OursWithDirectory(directory.clone());
        Kafka::start_with(&directory, KafkaOptions { lifetime, ..Default::default() }).await
    };
    SHARED.get_or_try_init(start).await
}

/// Formats the storage, with the user's password if Kafka is secured.
async fn format(distribution: &Distribution, directory: &Path, secured: bool) -> Result<()> {
    // Kafka requires 22 characters of Base64, which these are.
    let id = Uuid::new_v4().simple().to_string();
    let cluster = format!("{}A", &id[..21]);
    let properties = directory.join("server.properties").display().to_string();
    let mut arguments = vec!["format".to_owned(), "-t".to_owned(), cluster, "-c".to_owned(), properties];
    if secured {
        let user = format!("SCRAM-SHA-512=[name={SCRAM_USER},password=\"{SCRAM_PASSWORD}\"]");
        arguments.extend(["--add-scram".to_owned(), user]);
    }
    distribution.run("kafka.tools.StorageTool", &arguments).await
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("kafka.log")
}

async fn launch(distribution: &Distribution, directory: &Path, ports: &Ports, lifetime: &Lifetime) -> Result<Guarded> {
    let mut command = distribution.command("kafka.Kafka", JAVA_OPTIONS);
    command.arg(directory.join("server.properties")).current_dir(directory);
    let mut process = Guarded::start("Kafka", command, &log_file(directory), lifetime, Signal::Kill)?;
    // It opens its ports last.
    let id = process.id().clone();
    process.wait_until(PATIENCE, || ports.are_open() && id.is_alive()).await?;
    Ok(process)
}
