//! What an operator decides: defaults < file < environment < flags.

mod load;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use belfry_sandbox::{Class, Limits, SandboxSettings};
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Loaded, Setting, load};
pub use tokens::{Role, Tokens, TokensError};

/// The commented defaults; the documentation of every setting.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// A whole configuration. The fields are documented in [`DEFAULT_TOML`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings for operators and readers alike")]
pub struct Config {
    pub http: Http,
    pub ops: Ops,
    pub store: Store,
    pub ingest: Ingest,
    pub writer: Writer,
    pub sandbox: Sandbox,
    pub notification: Notification,
    pub retention: Retention,
    pub sink: Sinks,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Http {
    pub listen: SocketAddr,
    pub tokens_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Ops {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Store {
    pub url: String,
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
pub struct Notification {
    pub topic: String,
    pub source_service: Option<String>,
    pub categories: Vec<String>,
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
    pub stdout: Sink,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Sink {
    pub enabled: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, an object a line.
    Json,
}

impl Config {
    /// What cannot be true at the same time, or not at all.
    fn problem(&self) -> Option<String> {
        if !self.http.listen.ip().is_loopback() && self.http.tokens_file.is_none() {
            return Some(format!(
                "http.listen: {} can be reached from other machines, so http.tokens_file is needed; set it, or listen on 127.0.0.1",
                self.http.listen
            ));
        }
        let bounds = [
            ("ingest.max_event_bytes", self.ingest.max_event_bytes, 1024, 16 << 20),
            ("ingest.max_in_flight", self.ingest.max_in_flight, 1, 1 << 20),
            ("writer.group_entries", self.writer.group_entries, 1, 10_000),
            ("writer.group_wait_ms", self.writer.group_wait_ms as usize, 0, 1000),
            ("sandbox.threads", self.sandbox.threads, 0, 256),
            ("sandbox.native.memory_mib", self.sandbox.native.memory_mib, 2, 4096),
            ("sandbox.dynamic.memory_mib", self.sandbox.dynamic.memory_mib, 2, 4096),
            ("sandbox.native.deadline_ms", self.sandbox.native.deadline_ms as usize, 20, 60_000),
            ("sandbox.dynamic.deadline_ms", self.sandbox.dynamic.deadline_ms as usize, 20, 60_000),
            ("retention.log_days", self.retention.log_days as usize, 1, 36_500),
            ("retention.inbox_days", self.retention.inbox_days as usize, 1, 36_500),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Some(format!("{name}: {value} is out of bounds; use {least} to {most}"));
            }
        }
        if self.retention.inbox_days < self.retention.log_days {
            return Some(
                "retention.inbox_days: must be log_days at least; ids in the log are found by the inbox".into(),
            );
        }
        if self.notification.topic.is_empty() || self.notification.categories.is_empty() {
            return Some("notification: needs a topic and at least one category".into());
        }
        None
    }

    /// The file of an SQLite store; files that belong to it stand beside it.
    pub fn data_directory(&self) -> PathBuf {
        let path = self.store.url.split_once(':').map_or("", |(_, path)| path.trim_start_matches("//"));
        match PathBuf::from(path).parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// Threads for guests: as configured, or one for each processor, two at least.
    pub fn guest_threads(&self) -> usize {
        match self.sandbox.threads {
            0 => std::thread::available_parallelism().map_or(2, |count| count.get()).max(2),
            threads => threads,
        }
    }

    /// What the sandbox needs to know.
    pub fn sandbox_settings(&self) -> SandboxSettings {
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
            cache_directory: Some(self.data_directory().join("compiled")),
        }
    }
}
