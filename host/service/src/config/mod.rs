//! The configuration. In ascending order of precedence: defaults, file, environment, flags.

mod load;
mod preset;
mod problems;
mod start_at;
mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use belfry_sandbox::{Class, CompileLimits, Compiler, Limits, SandboxSettings};
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Loaded, Setting, load};
pub use preset::Preset;
pub use start_at::{InvalidStart, StartAt};
pub(crate) use transport::secret;
pub use transport::{
    DeclaredTopic, EventIdentity, Kafka, PostgresSource, Property, Redis, SecretError, SourceTopics, Sources, Store,
    Subscribed, is_secret, without_secrets,
};

/// The commented defaults, which document every setting.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// A whole configuration. The fields are documented in [`DEFAULT_TOML`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings for operators and readers alike")]
pub struct Config {
    pub preset: Preset,
    pub http: Http,
    pub ops: Ops,
    pub store: Store,
    pub kafka: Kafka,
    pub redis: Redis,
    pub source: Sources,
    pub ingest: Ingest,
    pub writer: Writer,
    pub sandbox: Sandbox,
    pub releases: Releases,
    pub notification: Notification,
    pub publish: Publish,
    pub retention: Retention,
    pub replica: Replica,
    pub delivery: Delivery,
    pub sink: Sinks,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Http {
    pub listen: SocketAddr,
    pub tokens_file: Option<PathBuf>,
    pub require_token: bool,
    pub denials_per_minute: u32,
    pub max_connections: usize,
    pub max_feeds: usize,
    pub body_memory_mib: usize,
    pub head_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub read_timeout_ms: u64,
    pub idle_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Ops {
    pub listen: SocketAddr,
    pub max_connections: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Ingest {
    pub max_event_bytes: usize,
    pub max_in_flight: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Writer {
    pub group_entries: usize,
    pub group_wait_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Sandbox {
    pub threads: usize,
    pub cache_directory: Option<PathBuf>,
    pub native: GuestClass,
    pub dynamic: GuestClass,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct GuestClass {
    pub memory_mib: usize,
    pub deadline_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Releases {
    pub compile_seconds: u64,
    pub compile_processor_seconds: u64,
    pub compile_memory_mib: u64,
    pub require_signature: bool,
    pub require_replay_hours: u32,
    pub recheck_percent: f64,
    pub trusted_keys: BTreeMap<String, String>,
}

impl Releases {
    /// Returns the maximum age of a replay that an activation requires, or `None` if it requires no replay.
    pub(crate) fn replay_within(&self) -> Option<Duration> {
        (self.require_replay_hours > 0).then(|| Duration::from_secs(u64::from(self.require_replay_hours) * 3600))
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Notification {
    pub topic: String,
    pub source_service: Option<String>,
    pub categories: Vec<String>,
}

/// The events to publish.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Publish {
    pub topics: SourceTopics,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Retention {
    pub log_days: u32,
    pub inbox_days: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Sinks {
    pub kafka: Sink,
    pub redis: RedisSink,
    pub stdout: Sink,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct RedisSink {
    pub enabled: bool,
    pub beside_kafka: bool,
    pub resume: Option<Resume>,
}

/// Where a sink continues that was disabled while entries were recorded for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// At its last position: it is sent the entries that it missed.
    Position,
    /// At the end of the log: it never gets the entries that it missed.
    End,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Replica {
    pub name: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Delivery {
    pub mode: DeliveryMode,
    pub stall_ms: u64,
    pub backoff_max_ms: u64,
}

/// Whether recorded entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// Entries are sent.
    Send,
    /// Events are recorded and projected, and nothing is sent.
    Observe,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Sink {
    pub enabled: bool,
    pub resume: Option<Resume>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// JSON, one object per line.
    Json,
}

impl Config {
    /// Returns the topics that are read regardless of the subscriptions of releases.
    pub fn source_topics(&self) -> &[String] {
        match &self.kafka.topics {
            SourceTopics::Subscribed(_) => &[],
            SourceTopics::These(topics) => topics,
        }
    }

    /// Returns whether events are read from Kafka.
    pub fn reads_kafka(&self) -> bool {
        !self.kafka.brokers.is_empty() && self.kafka.topics != SourceTopics::These(Vec::new())
    }

    /// Returns the directory of compiled rules. Default: next to an SQLite store, otherwise in the user's cache directory.
    /// There is no other fallback: its files are executed, so no other user may be able to write there.
    pub(crate) fn cache_directory(&self) -> Option<PathBuf> {
        if self.sandbox.cache_directory.is_some() {
            return self.sandbox.cache_directory.clone();
        }
        if self.store.is_embedded() {
            return Some(self.data_directory().join("compiled"));
        }
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        caches.map(|caches| caches.join("belfry/compiled"))
    }

    /// Returns the directory of an SQLite store's file and the files that belong to it.
    fn data_directory(&self) -> PathBuf {
        let path = self.store.url.split_once(':').map_or("", |(_, path)| path.trim_start_matches("//"));
        match PathBuf::from(path).parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// Returns the number of guest threads: as configured, or by default one per processor but at least two.
    pub fn guest_threads(&self) -> usize {
        match self.sandbox.threads {
            0 => std::thread::available_parallelism().map_or(2, |count| count.get()).max(2),
            threads => threads,
        }
    }

    /// Returns the number of threads for replays: half as many as for live events, which have priority.
    pub(crate) fn replay_threads(&self) -> usize {
        self.guest_threads().div_ceil(2)
    }

    /// Returns the settings of the sandbox, given the program that compiles components.
    pub fn sandbox_settings(&self, compiler: PathBuf) -> SandboxSettings {
        let limits = |class: Class, configured: &GuestClass| Limits {
            memory_bytes: configured.memory_mib << 20,
            deadline: Duration::from_millis(configured.deadline_ms),
            ..Limits::of(class)
        };
        SandboxSettings {
            concurrency: self.guest_threads(),
            native: limits(Class::Native, &self.sandbox.native),
            dynamic: limits(Class::Dynamic, &self.sandbox.dynamic),
            categories: self.notification.categories.clone(),
            cache_directory: self.cache_directory(),
            compiler: Compiler::Process {
                program: compiler,
                limits: CompileLimits {
                    time: Duration::from_secs(self.releases.compile_seconds),
                    processor_time: Duration::from_secs(self.releases.compile_processor_seconds),
                    memory_bytes: self.releases.compile_memory_mib << 20,
                },
            },
        }
    }
}
