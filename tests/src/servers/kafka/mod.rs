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

/// What starting and ending may take at most.
const PATIENCE: Duration = Duration::from_secs(90);
/// As Kafka's own scripts have it, but for a quarter of the memory.
const JAVA_OPTIONS: &[&str] = &["-Xmx256m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

/// Who may use a secured Kafka.
pub const SCRAM_USER: &str = "belfry";
/// The user's password.
pub const SCRAM_PASSWORD: &str = "a tower and a bell";

/// How a Kafka is started.
#[derive(Default)]
pub struct KafkaOptions<'a> {
    /// The port for clients; otherwise a free one.
    pub port: Option<u16>,
    /// The port that clients are told to use, if that is a proxy's.
    pub advertised: Option<u16>,
    /// What goes into `server.properties`, after what is there for every one.
    pub settings: &'a [(&'a str, &'a str)],
    /// Clients need TLS, with this certificate, and a password ([`SCRAM_USER`], SCRAM-SHA-512).
    pub certificates: Option<&'a Certificates>,
    /// How long it runs.
    pub lifetime: Lifetime,
}

/// A Kafka of its own on 127.0.0.1: one process, broker and controller in one, no topics.
///
/// It listens twice: for clients, in the way that is asked for; and directly, in plain text and past any proxy, for what
/// tests do and see from outside.
pub struct Kafka {
    distribution: Distribution,
    directory: PathBuf,
    ports: Ports,
    lifetime: Lifetime,
    process: Slot,
    producer: OnceLock<FutureProducer>,
}

impl Kafka {
    /// Start one in this directory, on free ports.
    ///
    /// # Errors
    /// If Java is missing, Kafka cannot be fetched, or does not start.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, KafkaOptions::default()).await
    }

    /// The same on a given port.
    ///
    /// # Errors
    /// As with [`Self::start`], and if the port is taken.
    pub async fn start_at(directory: &Path, port: u16) -> Result<Self> {
        Self::start_with(directory, KafkaOptions { port: Some(port), ..Default::default() }).await
    }

    /// The same behind a proxy that listens on `advertised` and forwards to `port`.
    ///
    /// # Errors
    /// As with [`Self::start_at`].
    pub async fn start_behind(directory: &Path, port: u16, advertised: u16) -> Result<Self> {
        let (port, advertised) = (Some(port), Some(advertised));
        Self::start_with(directory, KafkaOptions { port, advertised, ..Default::default() }).await
    }

    /// The same with TLS and a password: SASL_SSL, SCRAM-SHA-512, [`SCRAM_USER`], [`SCRAM_PASSWORD`].
    ///
    /// # Errors
    /// As with [`Self::start`].
    pub async fn start_secured(directory: &Path, certificates: &Certificates) -> Result<Self> {
        Self::start_with(directory, KafkaOptions { certificates: Some(certificates), ..Default::default() }).await
    }

    /// The same with options. Data that is there already is used.
    ///
    /// # Errors
    /// As with [`Self::start_at`].
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
                // The other two ports are ours to choose, even if that for clients is not.
                Err(error) if starts < STARTS && says_taken(&error) => {}
                Err(error) => return Err(error.context(format!("Kafka on port {}", ports.clients))),
            }
        }
    }

    /// Where clients find it: at the proxy, if there is one.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.advertised.unwrap_or(self.ports.clients))
    }

    /// Where tests find it, in plain text and past any proxy.
    pub fn direct(&self) -> String {
        format!("127.0.0.1:{}", self.ports.direct)
    }

    /// The port that it listens on for clients.
    pub fn port(&self) -> u16 {
        self.ports.clients
    }

    /// What it writes while it runs.
    pub fn log(&self) -> PathBuf {
        log_file(&self.directory)
    }

    /// Its process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id(&self) -> Result<ProcessId> {
        self.process.id()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&self) -> Result<()> {
        self.process.take()?.end(Signal::Kill, PATIENCE).await?;
        Ok(())
    }

    /// Stop it in good order.
    ///
    /// # Errors
    /// If it does not run, or does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.process.take()?.end(Signal::Terminate, PATIENCE).await?;
        Ok(())
    }

    /// Start it again with the same data on the same ports; stop it before, if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        let process = launch(&self.distribution, &self.directory, &self.ports, &self.lifetime).await?;
        self.process.put(process);
        self.wait_for_broker(PATIENCE).await
    }

    /// Let it stand still: connections stay, nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.id()?.stop_running().await
    }

    /// Let it go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.id()?.signal(Signal::Continue)
    }

    /// Let it run on, also after this process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn leave(self) -> Result<ProcessId> {
        Ok(self.process.take()?.leave())
    }
}

/// The Kafka that all tests of one process share; each uses topics and groups of its own in it.
///
/// # Errors
/// If it does not start.
pub async fn shared_kafka() -> Result<&'static Kafka> {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    let start = || async {
        let directory = shared_directory()?;
        let lifetime = Lifetime::OursWithDirectory(directory.clone());
        Kafka::start_with(&directory, KafkaOptions { lifetime, ..Default::default() }).await
    };
    SHARED.get_or_try_init(start).await
}

/// Make the storage; a user's password is part of it from the start.
async fn format(distribution: &Distribution, directory: &Path, secured: bool) -> Result<()> {
    // Kafka wants 22 characters of Base64, which these are.
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
    // It listens last of all.
    let id = process.id().clone();
    process.wait_until(PATIENCE, || ports.are_open() && id.is_alive()).await?;
    Ok(process)
}
