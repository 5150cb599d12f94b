//! The configuration. In ascending order of precedence: defaults, file, environment, flags.

mod assigned;
mod check;
mod describe;
mod load;
mod preset;
mod tokens;
mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use belfry_sandbox::{Class, CompileLimits, Compiler, Limits, SandboxSettings};
use serde::{Deserialize, Serialize};

use crate::kafka::is_topic_name;
use crate::releases::TrustedKeys;

pub use load::{ConfigError, Loaded, Setting, load};
pub use preset::Preset;
pub use tokens::{Tokens, TokensError};
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
    /// Returns the first value that is out of bounds or contradicts another.
    fn problem(&self) -> Option<String> {
        if !self.http.listen.ip().is_loopback() && self.http.tokens_file.is_none() && !self.http.require_token {
            return Some(format!(
                "http.listen: {} can be reached from other machines, so tokens are required; set http.require_token or \
                 http.tokens_file, or listen on 127.0.0.1",
                self.http.listen
            ));
        }
        let problems = [self.listen_problem(), self.blank_problem(), self.transport_problem()];
        if let Some(problem) = problems.into_iter().flatten().next() {
            return Some(problem);
        }
        let bounds = [
            ("http.denials_per_minute", self.http.denials_per_minute as usize, 0, 1 << 20),
            ("http.max_connections", self.http.max_connections, 2, 65_536),
            ("http.max_feeds", self.http.max_feeds, 1, self.http.max_connections),
            ("http.body_memory_mib", self.http.body_memory_mib, 66, 1 << 20),
            ("http.head_timeout_ms", self.http.head_timeout_ms as usize, 100, 600_000),
            ("http.body_timeout_ms", self.http.body_timeout_ms as usize, 100, 600_000),
            ("http.read_timeout_ms", self.http.read_timeout_ms as usize, 100, 600_000),
            ("http.idle_timeout_ms", self.http.idle_timeout_ms as usize, 100, 3_600_000),
            ("ops.max_connections", self.ops.max_connections, 2, 65_536),
            ("ingest.max_event_bytes", self.ingest.max_event_bytes, 1024, 16 << 20),
            ("ingest.max_in_flight", self.ingest.max_in_flight, 1, 1 << 20),
            ("writer.group_entries", self.writer.group_entries, 1, 10_000),
            ("writer.group_wait_ms", self.writer.group_wait_ms as usize, 0, 1000),
            ("sandbox.threads", self.sandbox.threads, 0, 256),
            ("sandbox.native.memory_mib", self.sandbox.native.memory_mib, 2, 4096),
            ("sandbox.dynamic.memory_mib", self.sandbox.dynamic.memory_mib, 2, 4096),
            ("sandbox.native.deadline_ms", self.sandbox.native.deadline_ms as usize, 20, 60_000),
            ("sandbox.dynamic.deadline_ms", self.sandbox.dynamic.deadline_ms as usize, 20, 60_000),
            ("releases.compile_seconds", self.releases.compile_seconds as usize, 1, 600),
            ("releases.compile_processor_seconds", self.releases.compile_processor_seconds as usize, 1, 6000),
            ("releases.compile_memory_mib", self.releases.compile_memory_mib as usize, 256, 1 << 20),
            ("releases.require_replay_hours", self.releases.require_replay_hours as usize, 0, 24 * 366),
            ("store.max_connections", self.store.max_connections as usize, 2, 1000),
            ("store.connect_timeout_ms", self.store.connect_timeout_ms as usize, 100, 60_000),
            ("store.statement_timeout_ms", self.store.statement_timeout_ms as usize, 100, 600_000),
            ("store.partition_entries", self.store.partition_entries as usize, 4, 1 << 40),
            ("store.lock_timeout_ms", self.store.lock_timeout_ms as usize, 100, 60_000),
            ("kafka.identity_window_seconds", self.kafka.identity_window_seconds as usize, 1, 30 * 24 * 3600),
            ("delivery.stall_ms", self.delivery.stall_ms as usize, 1000, 600_000),
            ("delivery.backoff_max_ms", self.delivery.backoff_max_ms as usize, 100, 600_000),
            ("retention.log_days", self.retention.log_days as usize, 1, 36_500),
            ("retention.inbox_days", self.retention.inbox_days as usize, 1, 36_500),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Some(format!("{name}: {value} is out of bounds; use {least} to {most}"));
            }
        }
        if !(0.0..=100.0).contains(&self.releases.recheck_percent) {
            let percent = self.releases.recheck_percent;
            return Some(format!("releases.recheck_percent: {percent} is out of bounds; use 0 to 100"));
        }
        if self.retention.inbox_days < self.retention.log_days {
            return Some(
                "retention.inbox_days: must be at least log_days; event ids in the log are looked up in the inbox"
                    .into(),
            );
        }
        if let Some(problem) = self.publish_problem() {
            return Some(problem);
        }
        if self.notification.topic.is_empty() || self.notification.categories.is_empty() {
            return Some("notification: needs a topic and at least one category".into());
        }
        self.trusted_keys().err()
    }

    fn transport_problem(&self) -> Option<String> {
        if (self.sink.kafka.enabled || !self.source_topics().is_empty()) && self.kafka.brokers.is_empty() {
            return Some("kafka.brokers: needed by sink.kafka and kafka.topics; set it, such as kafka-1:9092".into());
        }
        let window_days = self.kafka.identity_window_seconds.div_ceil(24 * 3600);
        let by_content = self.kafka.identity.values().any(|identity| *identity == EventIdentity::Content);
        if by_content && 2 * window_days > u64::from(self.retention.inbox_days) {
            return Some(
                "kafka.identity_window_seconds: event ids must be kept for twice this time; decrease it, or increase \
                 retention.inbox_days"
                    .into(),
            );
        }
        if let Some(Err(invalid)) = self.kafka.start_at.as_deref().map(str::parse::<crate::kafka::StartAt>) {
            return Some(format!("kafka.start_at: {invalid}"));
        }
        if let Some(problem) = self.observing_problem() {
            return Some(problem);
        }
        if self.sink.redis.enabled && self.redis.url.is_none() && self.redis.url_file.is_none() {
            return Some("redis.url: needed by sink.redis; set it, such as redis://redis:6379".into());
        }
        if self.sink.redis.enabled && self.sink.kafka.enabled && !self.sink.redis.beside_kafka {
            return Some(
                "sink.redis: the platform's WebSocket service already publishes to Redis what sink.kafka sends, so \
                 teachers would be notified twice; disable one, or set sink.redis.beside_kafka = true if that service \
                 does not run"
                    .into(),
            );
        }
        let mut names = std::collections::HashSet::new();
        for source in &self.source.postgres {
            if source.name.is_empty() || !names.insert(&source.name) {
                return Some(format!(
                    "source.postgres: the name {:?} is empty or taken; give each source a unique name",
                    source.name
                ));
            }
            if source.url.is_empty() && source.url_file.is_none() {
                return Some(format!("source.postgres {}: needs url or url_file", source.name));
            }
        }
        None
    }

    fn publish_problem(&self) -> Option<String> {
        let SourceTopics::These(topics) = &self.publish.topics else { return None };
        let is_wrong = |named: &&String| *named != "*" && !is_topic_name(named.strip_suffix('*').unwrap_or(named));
        let wrong = topics.iter().find(is_wrong)?;
        Some(format!(
            "publish.topics: {wrong:?} is not a valid topic; use the name of a topic, a prefix of names followed by *, or *"
        ))
    }

    fn observing_problem(&self) -> Option<String> {
        let observing = self.delivery.mode == DeliveryMode::Observe;
        if observing && !self.source.postgres.is_empty() {
            return Some(
                "source.postgres: while delivery.mode is observe, submitted events would be removed from the services' \
                 databases and never be published; remove the sources until delivery.mode is send"
                    .into(),
            );
        }
        match &self.kafka.behind {
            Some(_) if !observing => Some(
                "kafka.behind: applies only while delivery.mode is observe; remove it before events are sent, once `belfry \
                 position show --beside GROUP` shows both groups at the same positions"
                    .into(),
            ),
            Some(group) if *group == self.kafka.group => {
                Some("kafka.behind: must be another group than kafka.group".into())
            }
            _ => None,
        }
    }

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
    fn cache_directory(&self) -> Option<PathBuf> {
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

    /// Returns the keys whose signatures are trusted.
    pub(crate) fn trusted_keys(&self) -> Result<TrustedKeys, String> {
        TrustedKeys::new(self.releases.require_signature, &self.releases.trusted_keys)
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
